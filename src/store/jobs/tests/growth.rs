//! What keeps lists and histories quick however long they grow: asked of SQLite's planner, not of a clock.

use std::num::NonZeroU32;

use sqlx::Row;

use super::super::{deletion, history, position, queue, row, run};
use super::*;
use crate::store::{champion, in_use, models, orphans};
use crate::train::event::{ClassMetrics, GroupAccuracy, TestMetrics};

/// The steps of SQLite's plan for a query.
async fn plan(store: &Store, query: &str) -> Vec<String> {
    let explain = format!("EXPLAIN QUERY PLAN {query}");
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&store.reader).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

#[tokio::test]
async fn no_list_is_read_whole_or_sorted() {
    let f = Fixture::new().await;
    let queries = [
        ("a job", row::BY_ID),
        ("a page of jobs", row::PAGE),
        ("a page of jobs in a state", row::PAGE_OF_STATE),
        ("places in the queue", position::PLACES),
        ("a claim", queue::CLAIM),
        ("a page of epochs", history::METRICS),
        ("a batch of events", history::EVENTS),
        ("an epoch told before", run::EPOCH_TOLD),
        ("a page of versions", models::PAGE),
    ];
    for (what, query) in queries {
        let plan = plan(&f.store, query).await;
        let reads = |step: &&String| step.starts_with("SEARCH") || step.starts_with("SCAN");
        assert!(plan.iter().filter(reads).count() > 0, "{what}: {plan:?}");
        for step in &plan {
            // The queue's index holds nothing but the queue, in its order: its first entry is the next job.
            let whole = step.starts_with("SCAN") && !step.contains("jobs_queue") && !step.contains("CONSTANT ROW");
            let sorted = step.contains("TEMP B-TREE");
            // A table's rows may come from its key alone; `(state=?)` on its own would be all the jobs of a state.
            let half = step.contains("jobs_by_state (state=?)") && !step.contains("id<?");
            assert!(!(whole || sorted || half) || scans_little(step), "{what}: {step}\n{plan:#?}");
        }
    }
}

/// Of a thousand classes the figures are megabytes, and each prediction asks which version it is by.
#[tokio::test]
async fn a_versions_figures_are_passed_by_where_nobody_asks_for_them() {
    let f = Fixture::new().await;
    for query in [models::VERSION, models::ALIASED, models::NEWEST_ALIASED] {
        let plan = plan(&f.store, query).await;
        let index = "USING COVERING INDEX model_versions_facts (name=? AND version=?)";
        let versions: Vec<&String> = plan.iter().filter(|step| step.contains(" v ")).collect();
        assert!(matches!(versions[..], [step] if step.ends_with(index)), "{plan:#?}");
    }
}

#[tokio::test]
async fn a_jobs_end_reads_its_sweep_and_no_other_job() {
    let f = Fixture::new().await;
    let plan = plan(&f.store, champion::CROWN).await;
    let found = plan.iter().filter(|step| step.starts_with("SEARCH j USING") && step.contains("id=?")).count();
    assert_eq!(found, 1, "{plan:#?}");
    // `member` is the job and its sweep's.
    let scans =
        |step: &&String| step.starts_with("SCAN") && !["SCAN member", "SCAN CONSTANT ROW"].contains(&step.as_str());
    assert_eq!(plan.iter().find(scans), None, "{plan:#?}");
}

/// Everybody who writes waits for a deletion.
#[tokio::test]
async fn a_deletion_looks_for_what_needs_it_by_keys_alone() {
    let f = Fixture::new().await;
    let queries = [
        ("unfinished jobs on a data set", in_use::OF_DATASET, vec!["jobs_unfinished_by_dataset"]),
        ("unfinished jobs from weights", in_use::OF_PRETRAINED, vec!["jobs_unfinished_by_pretrained"]),
        (
            "a row that names a file",
            orphans::NAMED,
            vec![
                "model_versions_by_weights",
                "model_versions_by_manifest",
                "model_versions_by_predictions",
                "pretrained_weights_by_sha256",
                "jobs_unfinished_by_weights",
            ],
        ),
    ];
    for (what, query, indexes) in queries {
        let plan = plan(&f.store, query).await;
        let searches: Vec<&String> = plan.iter().filter(|step| step.starts_with("SEARCH")).collect();
        assert_eq!(searches.len(), indexes.len(), "{what}: {plan:#?}");
        for index in indexes {
            assert!(searches.iter().any(|step| step.contains(&format!("{index} "))), "{what}: {index}\n{plan:#?}");
        }
        let scans = |step: &&String| step.starts_with("SCAN") && *step != "SCAN CONSTANT ROW" && !scans_little(step);
        assert_eq!(plan.iter().find(scans), None, "{what}: {plan:#?}");
    }
}

/// It happens every second, in histories of a million events.
#[tokio::test]
async fn overtaken_progress_is_found_by_its_kind() {
    let f = Fixture::new().await;
    for (overtaken, index) in
        [(run::OVERTAKEN_STEPS, "job_events_steps"), (run::OVERTAKEN_PRETRAINING, "job_events_pretraining")]
    {
        let plan = plan(&f.store, overtaken).await;
        assert!(plan.len() == 1 && plan[0].contains(&format!("{index} (job_id=?")), "{plan:#?}");
    }
}

#[tokio::test]
async fn a_batch_of_a_deleted_jobs_history_is_found_by_the_jobs_id() {
    let f = Fixture::new().await;
    for erase in deletion::HISTORY {
        let plan = plan(&f.store, erase).await;
        assert!(plan.iter().any(|step| step.contains("(job_id=?")), "{plan:#?}");
        let slow = |step: &&String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
        assert_eq!(plan.iter().find(slow), None, "{plan:#?}");
    }
}

/// Common table expressions and subqueries of one row each, and lists that a query brings along.
fn scans_little(step: &str) -> bool {
    ["SCAN before", "SCAN (subquery", "SCAN json_each"].iter().any(|name| step.starts_with(name))
}

#[tokio::test]
async fn places_follow_the_order_of_claims_through_priorities_and_pages() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(f.queue().await);
    }
    for (at, priority) in [(4, 5), (7, 5), (2, -1)] {
        sqlx::query("UPDATE jobs SET priority = ? WHERE id = ?")
            .bind(priority)
            .bind(ids[at].to_string())
            .execute(&f.store.writer)
            .await
            .unwrap();
    }
    let order = [4, 7, 0, 1, 3, 5, 6, 8, 2].map(|at| ids[at]);
    let mut before = None;
    let mut places = BTreeMap::new();
    loop {
        let page = f.store.jobs(None, before, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        places.extend(page.into_iter().map(|job| (job.queue_position.unwrap(), job.id)));
    }
    assert_eq!(places.values().copied().collect::<Vec<_>>(), order);
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), (1..=9).collect::<Vec<u64>>());
    for id in order {
        assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, id);
    }
}

/// Of a thousand classes it is megabytes a job, and a page may have a thousand of those.
#[tokio::test]
async fn what_is_there_for_each_class_is_read_with_its_job_and_not_with_a_page() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let shares = vec![0.1, 0.2, 0.7];
    let epoch = EpochMetrics {
        epoch: 1,
        validation_accuracy: 0.1 + 0.2,
        guess_classes: shares.clone(),
        unlabelled_classes: shares.clone(),
        validation_classes: shares,
        ..EpochMetrics::default()
    };
    let group = GroupAccuracy { attribute: "source".into(), accuracy: 1.0 / 3.0, ..GroupAccuracy::default() };
    let test = TestMetrics {
        accuracy: 0.1 + 0.2,
        confusion: vec![vec![1; 3]; 3],
        classes: vec![ClassMetrics::default(); 3],
        groups: vec![group],
        ..TestMetrics::default()
    };
    f.store.record(job.id, 1, &[Event::Epoch(epoch.clone()), Event::Test(test.clone())]).await.unwrap();
    let whole = f.store.job(job.id).await.unwrap();
    assert_eq!((&whole.last, &whole.best, &whole.test), (&Some(epoch.clone()), &whole.last, &Some(test.clone())));

    let epoch = EpochMetrics {
        guess_classes: Vec::new(),
        unlabelled_classes: Vec::new(),
        validation_classes: Vec::new(),
        ..epoch
    };
    let test = TestMetrics { confusion: Vec::new(), classes: Vec::new(), ..test };
    for state in [None, Some(JobState::Running)] {
        let page = f.store.jobs(state, None, 10).await.unwrap();
        let [line] = page.as_slice() else { panic!("{page:?}") };
        assert_eq!((&line.last, &line.best, &line.test), (&Some(epoch.clone()), &line.last, &Some(test.clone())));
    }
}

#[tokio::test]
async fn epochs_come_in_pages_that_join_without_a_gap() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let told: Vec<Event> = (1..=7).map(|number| epoch(number, 0.5, 0.5)).collect();
    f.store.record(job.id, 1, &told).await.unwrap();
    let mut seen = Vec::new();
    while let rows = f.store.job_metrics(job.id, seen.last().copied().unwrap_or(0), 3).await.unwrap()
        && !rows.is_empty()
    {
        seen.extend(rows.iter().map(|row| row.epoch));
    }
    assert_eq!(seen, (1..=7).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_best_epoch_is_none_that_leaves_a_class_out() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let collapsed = |epoch, accuracy| {
        let row = EpochMetrics {
            epoch,
            validation_accuracy: accuracy,
            validation_collapsed: true,
            ..EpochMetrics::default()
        };
        Event::Epoch(row)
    };
    f.store.record(job.id, 1, &[collapsed(1, 0.91)]).await.unwrap();
    let best = async || f.store.job(job.id).await.unwrap().best.unwrap().epoch;
    assert_eq!(best().await, 1, "there is no other yet");
    let told = [epoch(2, 0.80, 0.5), epoch(3, 0.75, 0.5), collapsed(4, 0.92), collapsed(5, 0.9)];
    f.store.record(job.id, 1, &told).await.unwrap();
    assert_eq!(best().await, 2);
    let every = NonZeroU32::new(100).unwrap();
    let shown = f.store.job_metrics_every(job.id, every, 0, 10).await.unwrap();
    assert_eq!(shown.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 5]);
}

#[tokio::test]
async fn of_epochs_that_are_right_equally_often_the_one_with_the_least_loss_is_the_best() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let told = [epoch(1, 0.5, 0.1), epoch(2, 0.8, 0.6), epoch(3, 0.8, 0.4), epoch(4, 0.8, 0.5), epoch(5, 0.7, 0.2)];
    f.store.record(job.id, 1, &told).await.unwrap();
    assert_eq!(f.store.job(job.id).await.unwrap().best.unwrap().epoch, 3);
    let every = NonZeroU32::new(100).unwrap();
    let shown = f.store.job_metrics_every(job.id, every, 0, 10).await.unwrap();
    assert_eq!(shown.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 3, 5]);
}

/// Epochs 1 to `last` of the attempt, as many events would leave them; the best is `best`.
async fn insert_epochs(f: &Fixture, job: &JobRow, last: u32, best: u32) {
    let row = serde_json::to_string(&EpochMetrics::default()).unwrap();
    sqlx::query(
        "WITH RECURSIVE epochs (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM epochs WHERE number < ?3)
         INSERT INTO job_metrics (job_id, attempt, epoch, validation_accuracy, validation_loss, metrics)
         SELECT ?1, ?2, number, iif(number = ?4, 0.9, 0.5), 0.5, json_set(?5, '$.epoch', number) FROM epochs",
    )
    .bind(job.id.to_string())
    .bind(job.attempt)
    .bind(last)
    .bind(best)
    .bind(row)
    .execute(&f.store.writer)
    .await
    .unwrap();
}

#[tokio::test]
async fn one_epoch_in_so_many_comes_with_the_first_the_best_and_the_last_whatever_the_pages() {
    let f = Fixture::new().await;
    let job = f.running().await;
    // Those of an attempt before it are no part of it.
    insert_epochs(&f, &JobRow { attempt: 0, ..job.clone() }, 300, 77).await;
    let none = f.store.job_metrics_every(job.id, NonZeroU32::MIN, 0, 10).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
    insert_epochs(&f, &job, 103, 41).await;
    for every in [1, 2, 7, 41, 50, 103, 104, u32::MAX] {
        let wanted = |epoch: &u32| epoch.is_multiple_of(every) || [1, 41, 103].contains(epoch);
        let expected: Vec<u32> = (1..=103).filter(wanted).collect();
        for limit in [1, 2, 5, 1000] {
            let mut seen: Vec<u32> = Vec::new();
            loop {
                let (after, every) = (seen.last().copied().unwrap_or(0), NonZeroU32::new(every).unwrap());
                let rows = f.store.job_metrics_every(job.id, every, after, limit).await.unwrap();
                if rows.is_empty() {
                    break;
                }
                seen.extend(rows.iter().map(|row| row.epoch));
                assert!(rows.len() == limit as usize || seen.last() == Some(&103), "a short page before the end");
            }
            assert_eq!(seen, expected, "every {every}, pages of {limit}");
        }
    }
    let nowhere = f.store.job_metrics_every(Uuid::now_v7(), NonZeroU32::MIN, 0, 10).await;
    assert!(matches!(nowhere, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn epochs_that_are_left_out_are_not_read() {
    let f = Fixture::new().await;
    let plan = plan(&f.store, history::METRICS_EVERY).await;
    let rows: Vec<&String> = plan.iter().filter(|step| step.contains(" m ") || step.contains("job_metrics")).collect();
    // Some are told twice, by the version of SQLite.
    assert!(rows.len() >= 6, "{plan:#?}");
    for step in rows {
        // By the whole key or the beginning of an index: the first of it is the epoch that is looked for.
        assert!(step.starts_with("SEARCH m USING") && step.contains("attempt=?"), "{step}\n{plan:#?}");
    }
    let sorted = plan.iter().filter(|step| step.contains("FOR ORDER BY")).count();
    assert_eq!(sorted, 1, "only the page itself is put in order: {plan:#?}");
}
