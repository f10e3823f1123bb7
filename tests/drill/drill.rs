//! The rounds.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::checks;
use super::ledger::{Job, Ledger};
use super::pictures::data_set;
use super::process::{Server, children};

/// Where a process can be made to die.
const POINTS: [&str; 15] = [
    "checkpoint.write",
    "checkpoint.fsync",
    "checkpoint.rename",
    "checkpoint.renamed",
    "child.event",
    "train.step",
    "export.write",
    "artifact.write",
    "artifact.fsync",
    "artifact.rename",
    "artifact.renamed",
    "store.commit",
    "store.committed",
    "import.rename",
    "import.renamed",
];

/// Epochs of a job here.
const EPOCHS: u64 = 5;

/// A run that never ends by its own figures is of no use here; one that collapses has ended well enough.
fn over(job: &Value) -> bool {
    job["state"] == "succeeded" || job["error"]["code"] == "collapsed"
}

struct Drill<'a> {
    data: &'a Path,
    rng: ChaCha8Rng,
    ledger: Ledger,
    killed: [u32; 3],
}

#[tokio::test]
async fn nothing_promised_is_lost_whatever_is_killed_when() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, seed) = (number("MIXMATCH_DRILL_ROUNDS", 10), number("MIXMATCH_DRILL_SEED", 2026));
    println!("MIXMATCH_DRILL_SEED={seed} MIXMATCH_DRILL_ROUNDS={rounds}");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut drill =
        Drill { data: &data, rng: ChaCha8Rng::seed_from_u64(seed), ledger: Ledger::default(), killed: [0; 3] };
    for round in 0..rounds {
        drill.round(round).await;
    }
    drill.end().await;
    let [servers, children, stops] = drill.killed;
    let jobs = drill.ledger.jobs.len();
    println!(
        "{rounds} rounds: {servers} servers killed, {children} children killed, {stops} orderly stops, {jobs} jobs"
    );
}

impl Drill<'_> {
    async fn round(&mut self, round: u64) {
        let fail = if self.rng.random_bool(0.45) {
            let point = *POINTS.choose(&mut self.rng).unwrap();
            // Some are passed at every step, some once in a run or an import.
            let often = ["checkpoint", "child", "train", "store"].iter().any(|room| point.starts_with(room));
            format!("{point}=kill@{}", self.rng.random_range(1..if often { 12 } else { 3 }))
        } else {
            String::new()
        };
        let started = SystemTime::now();
        let Some(mut server) = self.start(&fail) else {
            println!("round {round}: {fail:?} ended the server at its start");
            return checks::whole(self.data, &self.ledger).await;
        };
        let left = checks::orphans(self.data, started).await;
        assert!(left.is_empty(), "nothing names these, and the start left them: {left:?}");

        let patience = Duration::from_millis(self.rng.random_range(100..6000));
        let (began, mut acts) = (Instant::now(), 0);
        while began.elapsed() < patience && server.lives() {
            self.act(&server).await;
            self.look(&server).await;
            acts += 1;
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..150))).await;
        }
        let how = self.end_round(server).await;
        println!("round {round}: {fail:?}, {acts} acts in {:.1} s, then {how}", began.elapsed().as_secs_f64());
        checks::whole(self.data, &self.ledger).await;
        // What was asked for without an answer has happened or not; from here on it is known which.
        self.ledger.shadow = checks::shadow(self.data).await.into_iter().collect();
    }

    /// A point may end a server before it listens: another one starts without it in the next round.
    fn start(&mut self, fail: &str) -> Option<Server> {
        match Server::start(self.data, fail) {
            Ok(server) => Some(server),
            Err(log) if !fail.is_empty() && log.starts_with("signal: 9") => {
                self.killed[0] += 1;
                None
            }
            Err(log) => panic!("the server does not start: {log}"),
        }
    }

    async fn end_round(&mut self, mut server: Server) -> &'static str {
        if !server.lives() {
            self.killed[0] += 1;
            server.wait();
            return "it had killed itself";
        }
        let at_work = children(self.data);
        let one = at_work.len() <= 1;
        assert!(one, "one slot, and {at_work:?} are at work");
        match self.rng.random_range(0..10) {
            0..6 => {
                self.killed[0] += 1;
                server.kill();
                "the server was killed"
            }
            6..8 if !at_work.is_empty() => {
                self.killed[1] += 1;
                // SAFETY: a plain system call; a child that has ended meanwhile has no successor within microseconds.
                unsafe { libc::kill(at_work[0], libc::SIGKILL) };
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..800))).await;
                self.look(&server).await;
                self.killed[0] += 1;
                server.signal(libc::SIGKILL);
                server.wait();
                "the child was killed, then the server"
            }
            _ => {
                self.killed[2] += 1;
                server.signal(libc::SIGTERM);
                // A point may still strike while it stops.
                let orderly = server.wait().success();
                if orderly {
                    let left = checks::orphans(self.data, SystemTime::now()).await;
                    assert!(left.is_empty(), "an orderly stop left {left:?}");
                }
                if orderly { "it was stopped" } else { "it died while it stopped" }
            }
        }
    }

    /// Something that a client does. No answer is no promise.
    async fn act(&mut self, server: &Server) {
        let jobs: Vec<String> = self.ledger.jobs.keys().cloned().collect();
        match self.rng.random_range(0..10) {
            0..2 if self.ledger.datasets.len() < 4 => self.import(server).await,
            2..5 if !self.ledger.datasets.is_empty() && self.unfinished(server).await < 3 => self.queue(server).await,
            5..8 => {
                let Some(id) = jobs.choose(&mut self.rng) else { return };
                let wish = ["pause", "resume", "resume", "retry"].choose(&mut self.rng).unwrap();
                if let Some((status, body)) = server.post(&format!("/jobs/{id}/{wish}")).await {
                    assert!([202, 409].contains(&status), "{wish}: {status} {body}");
                }
            }
            8..10 => self.alias(server).await,
            _ => {}
        }
    }

    async fn unfinished(&self, server: &Server) -> usize {
        let Some(page) = server.get("/jobs").await else { return usize::MAX };
        let items = page["items"].as_array().unwrap();
        items.iter().filter(|job| ["queued", "running", "paused"].contains(&job["state"].as_str().unwrap())).count()
    }

    async fn import(&mut self, server: &Server) {
        let drawn = data_set(60, 12);
        let name = format!("shapes-{}", self.rng.random_range(0..u32::MAX));
        let form = Form::new()
            .text("name", name.clone())
            .text("task", "shape")
            .part("images", Part::bytes(drawn.images).file_name("images.zip"))
            .part("train", Part::bytes(drawn.train.into_bytes()).file_name("train.csv"))
            .part("test", Part::bytes(drawn.test.into_bytes()).file_name("test.csv"));
        let Ok(answer) = server.client.post(format!("{}/datasets", server.base)).multipart(form).send().await else {
            return;
        };
        assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
        self.ledger.datasets.push(name);
    }

    async fn queue(&mut self, server: &Server) {
        let dataset = self.ledger.datasets.choose(&mut self.rng).unwrap();
        let algorithm = *["mixmatch", "supervised"].choose(&mut self.rng).unwrap();
        let seed = self.rng.random_range(0..1000);
        let request = json!({
            "dataset": dataset, "preset": "quick", "network": "wrn-10-1", "algorithm": algorithm, "labelled": 20,
            "seed": seed, "size": 16, "batch": 8, "epochs": EPOCHS, "steps_per_epoch": 4,
        });
        let sent = server.client.post(format!("{}/jobs", server.base)).json(&request).send().await;
        let Ok(answer) = sent else { return };
        assert_eq!(answer.status(), 202);
        let Ok(job) = answer.json::<Value>().await else { return };
        self.ledger.jobs.insert(job["id"].as_str().unwrap().to_owned(), Job::default());
    }

    async fn alias(&mut self, server: &Server) {
        let Some(&version) = self.ledger.versions().choose(&mut self.rng) else { return };
        self.ledger.shadow.push(version);
        let path = format!("{}/models/shape/aliases/shadow", server.base);
        let Ok(answer) = server.client.put(path).json(&json!({ "version": version })).send().await else { return };
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        (self.ledger.shadow, self.ledger.has_shadow) = (vec![version], true);
    }

    /// Looks at everything that was promised.
    async fn look(&mut self, server: &Server) {
        let jobs: Vec<String> = self.ledger.jobs.keys().cloned().collect();
        for id in jobs {
            let (Some(job), Some(rows)) =
                (server.get(&format!("/jobs/{id}")).await, server.get(&format!("/jobs/{id}/metrics")).await)
            else {
                return;
            };
            self.ledger.job(&id, &job);
            self.ledger.rows(&id, &rows);
        }
    }

    /// Left alone, every job comes to its end.
    async fn end(&mut self) {
        let server = self.start("").unwrap();
        let jobs: Vec<String> = self.ledger.jobs.keys().cloned().collect();
        for id in &jobs {
            let began = Instant::now();
            loop {
                let job = server.get(&format!("/jobs/{id}")).await.unwrap();
                self.ledger.job(id, &job);
                if over(&job) {
                    break;
                }
                let wish = match job["state"].as_str().unwrap() {
                    "paused" => Some("resume"),
                    "failed" => {
                        // The only other way to fail that dying leads to.
                        let code = job["error"]["code"].as_str().unwrap();
                        assert!(["killed_by_signal", "crashed_repeatedly"].contains(&code), "{job:#}");
                        Some("retry")
                    }
                    "queued" | "running" => None,
                    other => panic!("nobody canceled it, and it is {other}: {job:#}"),
                };
                if let Some(wish) = wish {
                    assert_eq!(server.post(&format!("/jobs/{id}/{wish}")).await.unwrap().0, 202);
                }
                assert!(began.elapsed() < Duration::from_secs(300), "{job:#}\n{}", server.log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.look(&server).await;
        for id in &jobs {
            assert_eq!(self.ledger.epochs(id) as u64, EPOCHS, "job {id}");
        }
        server.stop();
        checks::whole(self.data, &self.ledger).await;
        let left = checks::orphans(self.data, SystemTime::now()).await;
        assert!(left.is_empty(), "{left:?}");
    }
}
