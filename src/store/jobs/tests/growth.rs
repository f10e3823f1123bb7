//! What keeps lists and histories quick however long they grow: asked of SQLite's planner, not of a clock.

use sqlx::Row;

use super::super::{history, position, queue, row, run};
use super::*;

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

/// Common table expressions and subqueries of one row each.
fn scans_little(step: &str) -> bool {
    ["SCAN before", "SCAN (subquery"].iter().any(|name| step.starts_with(name))
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
