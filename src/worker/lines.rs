//! Reads a child's standard output line by line without trusting it: a line has a length limit, and
//! bytes that are no UTF-8 are replaced. A child that writes a gigabyte without a newline costs 16 MiB.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest event line that is read. An epoch with a hundred classes is about 4 kB; the test figures of the thousand
/// classes that a data set may have hold a million counts.
pub const LINE_LIMIT: usize = 16 << 20;

/// One line of output.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line without its newline.
    Whole(String),
    /// The line was longer than the limit; its beginning, and its whole length in bytes.
    TooLong {
        /// The first 200 bytes.
        beginning: String,
        /// The length of the line in bytes.
        bytes: usize,
    },
}

/// Splits a byte stream into lines.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    limit: usize,
    line: Vec<u8>,
    length: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of `reader`, none longer than `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, line: Vec::new(), length: 0 }
    }

    /// The next line; `None` at the end. Cancel-safe: what has been read is kept for the next call.
    ///
    /// # Errors
    /// When the pipe cannot be read.
    pub async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok((self.length > 0).then(|| self.take()));
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..newline.unwrap_or(available.len())];
            let room = self.limit.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            self.length += part.len();
            let used = part.len() + usize::from(newline.is_some());
            self.reader.consume(used);
            if newline.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> Line {
        let bytes = std::mem::take(&mut self.length);
        let line = std::mem::take(&mut self.line);
        if bytes > self.limit {
            let beginning = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            return Line::TooLong { beginning, bytes };
        }
        Line::Whole(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(7, input), limit);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.to_owned())
    }

    #[tokio::test]
    async fn whole_lines_with_and_without_a_last_newline() {
        assert_eq!(lines(b"one\ntwo\r\n\nlast", 100).await, [whole("one"), whole("two"), whole(""), whole("last")]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_is_whole() {
        let mut input = vec![b'x'; 50];
        input.extend_from_slice(b"\nnext\n");
        let all = lines(&input, 10).await;
        assert_eq!(all, [Line::TooLong { beginning: "x".repeat(10), bytes: 50 }, whole("next")]);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_do_not_stop_the_reader() {
        assert_eq!(lines(b"\xff\xfe\nok\n", 100).await, [whole("\u{fffd}\u{fffd}"), whole("ok")]);
    }
}
