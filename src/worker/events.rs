//! From a child's lines to batches for the store: what is no event becomes a log line, progress that has
//! been overtaken is dropped, and a child that talks without end is cut off.

use std::mem::discriminant;

use crate::train::event::{Event, LogLevel};

use super::lines::Line;

/// Log lines that are kept of one attempt; more are counted, not stored.
const LOG_LINES: usize = 10_000;

/// So many events wait at most with all that is among them.
const MOST_PENDING: usize = 10_000;

/// The longest stored log line in characters.
const LOG_CHARACTERS: usize = 4_000;

/// What a child says that stopped because it was asked to.
const STOPPED: &str = "stopped";

/// Collects events until they are written.
#[derive(Debug, Default)]
pub struct Collector {
    pending: Vec<Event>,
    logged: usize,
}

impl Collector {
    /// Takes a line, and gives the event it was if the run must react to it (`Model`, `Problem`).
    pub fn line(&mut self, line: Line) -> Option<Event> {
        let event = match line {
            Line::Whole(text) if text.trim().is_empty() => return None,
            Line::Whole(text) => serde_json::from_str::<Event>(&text).unwrap_or_else(|_| stray(&text)),
            Line::TooLong { beginning, bytes } => stray(&format!("{beginning} … (a line of {bytes} bytes, cut)")),
        };
        self.event(event.clone());
        matches!(event, Event::Model { .. } | Event::Problem { .. }).then_some(event)
    }

    /// Takes an event.
    pub fn event(&mut self, event: Event) {
        match event {
            // Only where the run stands now matters; what is written already stays.
            Event::Step(_) | Event::Pretraining(_) => match self.pending.last_mut() {
                Some(last) if discriminant(last) == discriminant(&event) => *last = event,
                _ => self.pending.push(event),
            },
            Event::Log { level, message } => self.log(level, message),
            // Where the files lie is between the child and us, as is that it lives.
            Event::Model { .. } | Event::Alive => {}
            // It was asked to stop: that is the run's answer to us, and nobody's problem.
            Event::Problem { ref code, .. } if code == STOPPED => {}
            event => self.pending.push(event),
        }
    }

    fn log(&mut self, level: LogLevel, message: String) {
        self.logged += 1;
        let message = match self.logged {
            ..LOG_LINES => shorten(message),
            LOG_LINES => format!("more than {LOG_LINES} log lines: the rest is dropped"),
            _ => return,
        };
        self.pending.push(Event::Log { level, message });
    }

    /// Everything that has not been written yet.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.pending)
    }

    /// Puts back what could not be written, before everything newer. Where that has become very much, log lines and
    /// overtaken progress are given up: what a run reached is not.
    pub fn put_back(&mut self, mut events: Vec<Event>) {
        events.append(&mut self.pending);
        if events.len() > MOST_PENDING {
            let last = events.len() - 1;
            let mut at = 0..;
            events.retain(|event| {
                let newest = at.next() == Some(last);
                newest || !matches!(event, Event::Log { .. } | Event::Step(_) | Event::Pretraining(_))
            });
        }
        self.pending = events;
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

fn stray(text: &str) -> Event {
    Event::Log { level: LogLevel::Warn, message: text.to_owned() }
}

fn shorten(message: String) -> String {
    match message.char_indices().nth(LOG_CHARACTERS) {
        Some((at, _)) => format!("{} …", &message[..at]),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::LINE_LIMIT;
    use super::*;
    use crate::train::event::TestMetrics;

    fn whole(text: &str) -> Line {
        Line::Whole(text.to_owned())
    }

    fn step(step: u64) -> Line {
        whole(&format!(
            r#"{{"type":"step","epoch":1,"epochs":2,"step":{step},"steps":10,"loss":1.0,"images_per_second":5.0,"eta_seconds":3.0}}"#
        ))
    }

    #[test]
    fn what_is_no_event_becomes_a_log_line() {
        let mut collector = Collector::default();
        assert_eq!(collector.line(whole("Segmentation fault")), None);
        assert_eq!(collector.line(whole(r#"{"type":"unheard of"}"#)), None);
        assert_eq!(collector.line(whole("  ")), None);
        let events = collector.take();
        assert_eq!(events.len(), 2);
        assert!(matches!(&events[0], Event::Log { level: LogLevel::Warn, message } if message == "Segmentation fault"));
    }

    #[test]
    fn overtaken_progress_is_dropped_and_the_order_is_kept() {
        let mut collector = Collector::default();
        collector.line(step(1));
        collector.line(step(2));
        collector.line(whole("noise"));
        collector.line(step(3));
        let events = collector.take();
        assert_eq!(events.len(), 3);
        assert!(matches!(&events[0], Event::Step(progress) if progress.step == 2));
        assert!(matches!(&events[2], Event::Step(progress) if progress.step == 3));
    }

    #[test]
    fn pretrainings_progress_overtakes_its_own_alone() {
        let mut collector = Collector::default();
        let of_pretraining = |number: u64| match step(number) {
            Line::Whole(text) => whole(&text.replace("\"step\",", "\"pretraining\",")),
            other => other,
        };
        [of_pretraining(1), of_pretraining(2), step(1), step(2)].into_iter().for_each(|line| {
            collector.line(line);
        });
        let events = collector.take();
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(matches!(&events[0], Event::Pretraining(progress) if progress.step == 2));
        assert!(matches!(&events[1], Event::Step(progress) if progress.step == 2));
    }

    #[test]
    fn the_run_hears_of_a_model_and_of_a_problem() {
        let mut collector = Collector::default();
        assert!(collector.line(whole(r#"{"type":"model","directory":"/tmp/x"}"#)).is_some());
        assert!(collector.line(whole(r#"{"type":"problem","code":"a","detail":"b"}"#)).is_some());
        assert_eq!(collector.take().len(), 1, "the problem is stored, the directory is not");
    }

    #[test]
    fn that_a_run_stopped_when_asked_is_heard_and_not_kept() {
        let mut collector = Collector::default();
        let code = crate::train::TrainError::Stopped.code();
        let said = whole(&format!(r#"{{"type":"problem","code":"{code}","detail":"b"}}"#));
        assert!(matches!(collector.line(said), Some(Event::Problem { .. })));
        assert!(collector.is_empty(), "a pause is no problem");
    }

    #[test]
    fn a_sign_of_life_is_heard_and_not_kept() {
        let mut collector = Collector::default();
        let said = serde_json::to_string(&Event::Alive).unwrap();
        assert_eq!((collector.line(whole(&said)), collector.is_empty()), (None, true), "{said}");
    }

    #[test]
    fn the_test_figures_of_a_thousand_classes_fit_on_a_line() {
        let test = TestMetrics { confusion: vec![vec![99_999; 1000]; 1000], ..TestMetrics::default() };
        let line = serde_json::to_string(&Event::Test(test)).unwrap();
        assert!(line.len() < LINE_LIMIT, "{}", line.len());
    }

    #[test]
    fn what_waits_long_for_the_store_loses_its_log_and_no_epoch() {
        let mut collector = Collector::default();
        let checkpoint = |step| Event::Checkpoint { step };
        let mut waiting: Vec<Event> = (0..6_000).map(checkpoint).collect();
        waiting.extend((0..6_000).map(|_| stray("again")));
        collector.line(step(9));
        collector.put_back(waiting);
        let left = collector.take();
        assert_eq!(left.len(), 6_001);
        assert_eq!(left[5_999], checkpoint(5_999));
        assert!(matches!(&left[6_000], Event::Step(progress) if progress.step == 9), "where it stands now is kept");
    }

    #[test]
    fn a_child_that_talks_without_end_is_cut_off() {
        let mut collector = Collector::default();
        for _ in 0..LOG_LINES + 50 {
            collector.line(whole("again"));
        }
        assert_eq!(collector.len(), LOG_LINES);
        collector.take();
        collector.line(whole(&"x".repeat(100_000)));
        assert!(collector.is_empty());
    }
}
