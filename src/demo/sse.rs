//! Server-sent events out of the chunks in which they happen to arrive.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// What to send back as `Last-Event-ID`.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its data; several `data` lines are joined by line breaks.
    pub data: String,
}

/// Collects chunks until events are complete.
#[derive(Debug, Default)]
pub struct SseParser {
    /// Bytes since the last line break: a chunk may end inside a character.
    line: Vec<u8>,
    event: SseEvent,
    data_lines: usize,
}

impl SseParser {
    /// Takes a chunk; gives the events that it completes.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in chunk {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            events.extend(self.take_line(&line));
        }
        events
    }

    fn take_line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let complete = self.data_lines > 0;
            let event = std::mem::take(&mut self.event);
            self.data_lines = 0;
            return complete.then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.data_lines > 0 {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.data_lines += 1;
            }
            // A comment (the keep-alive), `retry`, or something newer.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "id: 7\nevent: step\ndata: {\"loss\":0.5}\n\n: still here\n\nevent: log\r\nid: 8\r\n\
        data: {\"message\":\"schön\"}\r\n\r\ndata: one\ndata: two\n\nid: 9\nevent: cut";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let whole = SseParser::default().feed(STREAM.as_bytes());
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0].id.as_deref(), Some("7"));
        assert_eq!((whole[1].name.as_str(), whole[1].data.as_str()), ("log", "{\"message\":\"schön\"}"));
        assert_eq!(whole[2].data, "one\ntwo");
        for size in 1..20 {
            let mut parser = SseParser::default();
            let pieces: Vec<SseEvent> = STREAM.as_bytes().chunks(size).flat_map(|chunk| parser.feed(chunk)).collect();
            assert_eq!(pieces, whole, "chunks of {size}");
        }
    }

    #[test]
    fn an_event_that_was_cut_off_is_none() {
        let mut parser = SseParser::default();
        assert!(parser.feed(b"id: 1\ndata: half").is_empty());
    }
}
