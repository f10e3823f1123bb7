//! Children that crash, hang and lie, and a server that is stopped under a running job: never a stuck
//! job, always a reason.

use std::time::Duration;

use super::app::{TestApp, tiny_job};

/// The job of a child that does `script`, when it is over.
async fn fate(script: &str, silence: Duration) -> serde_json::Value {
    let app = TestApp::with_child(script, |config| config.worker.silence = silence).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["failed", "succeeded", "canceled"]).await;
    app.stop().await;
    job
}

const LONG: Duration = Duration::from_secs(600);

fn assert_failed(job: &serde_json::Value, words: &[&str]) {
    assert_eq!(job["state"], "failed", "{job:#}");
    let reason = format!("{} {}", job["error"]["code"], job["error"]["detail"]);
    for word in words {
        assert!(reason.contains(word), "{word:?} in {reason}");
    }
}

#[tokio::test]
async fn a_killed_child_is_a_failed_job_with_the_signal() {
    assert_failed(&fate("kill -KILL $$", LONG).await, &["9"]);
}

#[tokio::test]
async fn a_child_that_was_asked_to_stop_before_it_could_hear_it_is_queued_again() {
    let app = TestApp::with_child(
        r#"if mkdir "$FLAG"; then kill -TERM $$; fi
           echo '{"type":"problem","code":"done","detail":"the second time"}'; exit 1"#,
        |config| {
            let flag = config.data_dir.root().with_file_name("stopped");
            config.worker.child.as_mut().unwrap().env.push(("FLAG".into(), flag.into()));
        },
    )
    .await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["failed", "succeeded", "canceled"]).await;
    app.stop().await;
    assert_failed(&job, &["the second time"]);
    assert_eq!(job["attempt"], 2, "{job:#}");
}

#[tokio::test]
async fn a_child_that_ends_badly_is_quoted() {
    let job = fate("echo 'the tape is torn' >&2; exit 7", LONG).await;
    assert_failed(&job, &["7", "the tape is torn"]);
}

#[tokio::test]
async fn a_child_that_ends_well_without_a_model_has_failed() {
    assert_failed(&fate("exit 0", LONG).await, &["without"]);
}

#[tokio::test]
async fn a_child_that_says_nothing_is_ended() {
    assert_failed(&fate("sleep 600", Duration::from_millis(400)).await, &["hung"]);
}

#[tokio::test]
async fn a_model_that_is_not_there_is_not_published() {
    let job = fate(r#"echo '{"type":"model","directory":"/nowhere/at/all"}'; exit 0"#, LONG).await;
    assert_failed(&job, &["publish_failed"]);
}

#[tokio::test]
async fn noise_on_the_pipe_does_no_harm() {
    let script = r#"head -c 3000000 /dev/zero; echo; echo 'not json'; echo '{"type":"news"}'; printf '\377\376\n'
        echo '{"type":"problem","code":"done","detail":"after the noise"}'; exit 1"#;
    assert_failed(&fate(script, LONG).await, &["after the noise"]);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failed_job() {
    let app = TestApp::with(|config| {
        config.worker.child = Some(mixmatch::worker::ChildCommand {
            program: "/nowhere/mixmatch".into(),
            args: Vec::new(),
            env: Vec::new(),
        });
    })
    .await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    assert_failed(&app.until(&id, &["failed"]).await, &["start_failed"]);
}

#[tokio::test]
async fn a_stopping_server_puts_its_job_back_and_the_next_one_takes_it() {
    let script = r#"echo '{"type":"phase","phase":"training"}'; sleep 600 & wait"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until_job(&id, "training", |job| job["phase"] == "training").await;
    let directory = app.stop().await;

    let app = TestApp::at(directory, |_| {}).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["attempt"], 2);
    app.stop().await;
}

#[tokio::test]
async fn a_child_that_was_stopped_by_somebody_else_goes_back_into_the_queue() {
    // As systemd does, which signals every process of a service at once.
    let script = r#"N="$(cat ../../../tries 2>/dev/null || echo 0)"; echo $((N + 1)) > ../../../tries
        if [ "$N" = 0 ]; then echo '{"type":"problem","code":"stopped","detail":"stopped on request"}'; exit 1; fi
        echo '{"type":"problem","code":"enough","detail":"the second time"}'; exit 1"#;
    let job = fate(script, LONG).await;
    assert_failed(&job, &["enough"]);
    assert_eq!(job["attempt"], 2);
}
