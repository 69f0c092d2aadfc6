//! Aligned text tables for results and `inspect`.

use crate::error::tame;
use std::fmt;

/// A table of text. Columns after the first are right-aligned if every cell below the heading is a number (or empty),
/// otherwise left-aligned.
#[derive(Debug, Clone, Default)]
pub struct TextTable {
    heading: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
enum Row {
    Cells(Vec<String>),
    Rule,
}

impl TextTable {
    /// A table with these column headings.
    pub fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Self {
        // A line break in a name must not break the table.
        Self {
            heading: heading.into_iter().map(|cell| tame(&cell.into())).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, cells beyond the heading get a column without one.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(Row::Cells(cells.into_iter().map(|cell| tame(&cell.into())).collect()));
        self
    }

    /// Adds a horizontal line, before a sum for example.
    pub fn rule(&mut self) -> &mut Self {
        self.rows.push(Row::Rule);
        self
    }

    fn cells(&self) -> impl Iterator<Item = &[String]> {
        self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => Some(cells.as_slice()),
            Row::Rule => None,
        })
    }

    fn write_row(f: &mut fmt::Formatter<'_>, cells: &[String], columns: &[Column]) -> fmt::Result {
        let mut line = String::new();
        for (place, column) in columns.iter().enumerate() {
            let cell = cells.get(place).map_or("", String::as_str);
            let padding = " ".repeat(column.width - width(cell));
            if place > 0 {
                line.push_str("  ");
            }
            if column.right {
                line.push_str(&padding);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&padding);
            }
        }
        writeln!(f, "{}", line.trim_end())
    }
}

struct Column {
    width: usize,
    right: bool,
}

/// Characters, which is close enough to terminal columns for names and numbers.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// True for what looks like a number: digits with signs, points, grouping, exponents, a percent sign; or nothing.
fn numeric(cell: &str) -> bool {
    let number = |c: char| c.is_ascii_digit() || ".,+-−e %–".contains(c);
    cell.is_empty()
        || cell == "–"
        || (cell.chars().all(number) && cell.chars().any(|c| c.is_ascii_digit()))
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count =
            self.cells().map(<[String]>::len).chain([self.heading.len()]).max().unwrap_or(0);
        let columns: Vec<Column> = (0..count)
            .map(|place| {
                let cells = || self.cells().filter_map(|cells| cells.get(place));
                let all = cells().chain(self.heading.get(place));
                Column {
                    width: all.map(|cell| width(cell)).max().unwrap_or(0),
                    right: place > 0 && cells().all(|cell| numeric(cell)),
                }
            })
            .collect();
        let across = columns.iter().map(|column| column.width + 2).sum::<usize>().saturating_sub(2);
        let rule = "─".repeat(across);
        Self::write_row(f, &self.heading, &columns)?;
        writeln!(f, "{rule}")?;
        for row in &self.rows {
            match row {
                Row::Cells(cells) => Self::write_row(f, cells, &columns)?,
                Row::Rule => writeln!(f, "{rule}")?,
            }
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = TextTable::new(["component", "values", "share", "note"]);
        table.row(["query", "1,234", "0.1 %", "a"]);
        table.row(["output-layernorm", "9", "12.0 %", "bc"]);
        table.rule().row(["all", "1,243"]);
        let expected = "\
component         values   share  note
──────────────────────────────────────
query              1,234   0.1 %  a
output-layernorm       9  12.0 %  bc
──────────────────────────────────────
all                1,243
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn letters_beyond_ascii_count_as_one_and_odd_rows_do_not_panic() {
        let mut table = TextTable::new(["Δb", "x"]);
        table.row(["ä"]).row(["b", "-1.5e-3", "extra"]).row(Vec::<String>::new());
        let text = table.to_string();
        assert_eq!(text.lines().next(), Some("Δb        x"));
        assert_eq!(text.lines().nth(3), Some("b   -1.5e-3  extra"));
        assert_eq!(TextTable::new(Vec::<String>::new()).to_string(), "\n\n");
    }

    #[test]
    fn a_line_break_breaks_neither_the_heading_nor_a_row() {
        let mut table = TextTable::new(["label", "as z\nq"]);
        table.row(["z\nq", "1"]);
        assert_eq!(table.to_string().lines().count(), 3, "{table}");
    }

    #[test]
    fn thousands_are_grouped() {
        let numbers = [(0, "0"), (999, "999"), (1000, "1,000"), (109_482_240, "109,482,240")];
        for (number, text) in numbers {
            assert_eq!(grouped(number), text);
        }
    }
}
