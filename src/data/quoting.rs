//! Where a csv's quotes violate RFC 4180: a parser reads on after a closing quote, and the text differs from what was
//! written. Programs that escape a quote with a backslash (MySQL, pandas with `escapechar`) write such files.

/// Tracks the quotes of one record, which may span several lines.
#[derive(Default)]
pub(super) struct Quoting {
    state: State,
    before: char,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    FieldBegins,
    Bare,
    Quoted,
    /// After a quote that closes the field, or is the first of two that represent one.
    Closed,
}

/// A character after the end of a quoted field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// Counted in characters from 1.
    pub column: usize,
    pub character: char,
    /// Whether a backslash precedes the quote.
    pub escaped: bool,
}

impl Quoting {
    /// Processes one line without its ending.
    pub fn line(&mut self, line: &str) -> Option<Behind> {
        let mut escaped = false;
        for (at, character) in line.chars().enumerate() {
            self.state = match (self.state, character) {
                (State::FieldBegins, '"') => State::Quoted,
                (State::FieldBegins | State::Bare | State::Closed, ',') => State::FieldBegins,
                (State::FieldBegins | State::Bare, _) => State::Bare,
                (State::Quoted, '"') => {
                    escaped = self.before == '\\';
                    State::Closed
                }
                (State::Quoted, _) | (State::Closed, '"') => State::Quoted,
                (State::Closed, _) => return Some(Behind { column: at + 1, character, escaped }),
            };
            self.before = character;
        }
        self.before = '\n';
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(lines: &[&str]) -> Option<(usize, char, bool)> {
        let mut quoting = Quoting::default();
        let found = lines.iter().find_map(|line| quoting.line(line))?;
        Some((found.column, found.character, found.escaped))
    }

    #[test]
    fn a_character_behind_a_closing_quote_is_found_by_its_column() {
        assert_eq!(behind(&[r#""the "film" good",pos"#]), Some((7, 'f', false)));
        assert_eq!(behind(&[r#""é \"film\" good",pos"#]), Some((6, 'f', true)));
        assert_eq!(behind(&[r#"a,"b" ,c"#]), Some((6, ' ', false)));
        assert_eq!(behind(&["a,\"b", "c\" d"]), Some((3, ' ', false)));
    }

    #[test]
    fn doubled_quotes_line_breaks_and_quotes_in_bare_fields_are_as_they_should_be() {
        for lines in [
            &[r#""the ""film"" good",pos"#][..],
            &[r#""",a,"""""#],
            &[r#"a "film",b\"c""#],
            &["\"a", "", "b,\",c"],
            &[r#"""#, r#"""#],
        ] {
            assert_eq!(behind(lines), None, "{lines:?}");
        }
    }
}
