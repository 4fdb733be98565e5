//! The one place that prints: data goes to standard output, talk to standard error.
//!
//! A reader that went away (`spillway jobs | head`) is no error: what is left is dropped. No escape sequence is
//! ever written, and control characters from others are shown as U+FFFD, so that no name can move a cursor.

use std::fmt;
use std::io::{IsTerminal, Write};

use serde::Serialize;
use spillway_types::UnixMs;

use crate::args::Format;
use crate::clock;

/// How values are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Whether tables have every column.
    pub wide: bool,
    /// Columns of the terminal; none means that lines are never folded.
    pub width: Option<u16>,
    /// The present, for ages.
    pub now: UnixMs,
}

/// Where data and talk go.
pub(crate) struct Output {
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
    format: Format,
    width: Option<u16>,
    reader_gone: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// The process's own streams.
    pub(crate) fn standard(format: Format) -> Self {
        let stdout = std::io::stdout();
        let width = if stdout.is_terminal() { terminal_width() } else { None };
        let talk = Box::new(std::io::stderr());
        Self { data: Box::new(stdout), talk, format, width, reader_gone: false }
    }

    /// Streams of one's own, for tests.
    #[cfg(test)]
    pub(crate) fn of(data: Box<dyn Write + Send>, talk: Box<dyn Write + Send>, format: Format) -> Self {
        Self { data, talk, format, width: None, reader_gone: false }
    }

    /// Shows a value: as JSON, or as `render` draws it.
    pub(crate) fn show<T: Serialize>(&mut self, value: &T, render: impl FnOnce(&Look, &T) -> String) {
        let wide = match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(value)
                    .unwrap_or_else(|error| format!("{{\"error\": {:?}}}", error.to_string()));
                return self.data(&format!("{text}\n"));
            }
            Format::Wide => true,
            // What has no CSV refuses it before it asks anybody.
            Format::Table | Format::Csv => false,
        };
        let look = Look { wide, width: self.width, now: clock::now() };
        let text = render(&look, value);
        self.data(&text);
    }

    /// Shows a value that is made of records: as [`Output::show`], or as CSV.
    pub(crate) fn records<T: Serialize>(
        &mut self,
        value: &T,
        render: impl FnOnce(&Look, &T) -> String,
        csv: impl FnOnce(&T) -> String,
    ) {
        match self.format {
            Format::Csv => self.data(&csv(value)),
            Format::Table | Format::Wide | Format::Json => self.show(value, render),
        }
    }

    /// Writes data.
    pub(crate) fn data(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes data that is not ours: what a job wrote, unchanged.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if !self.reader_gone {
            self.reader_gone = self.data.write_all(bytes).and_then(|()| self.data.flush()).is_err();
        }
    }

    /// Whether nobody reads the data any more.
    pub(crate) const fn reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Says something to the person: one or more whole lines.
    pub(crate) fn talk(&mut self, text: &str) {
        let lines: String = text.lines().map(|line| format!("{}\n", harmless(line))).collect();
        let written = self.talk.write_all(lines.as_bytes());
        // Nobody is left to be told that nobody listens.
        drop(written.and_then(|()| self.talk.flush()));
    }
}

fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns >= 20)
}

/// Replaces control characters, so that a text from elsewhere cannot act on the terminal; the ends of lines
/// become blanks.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let mut output = Output::of(Box::new(Broken), Box::new(Broken), Format::Table);
        assert!(!output.reader_gone());
        output.data("a");
        assert!(output.reader_gone());
        output.show(&1, |_, _| unreachable_text());
        output.talk("b");
    }

    fn unreachable_text() -> String {
        "dropped".to_owned()
    }

    #[test]
    fn escape_sequences_of_others_are_defused() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd} c");
    }
}
