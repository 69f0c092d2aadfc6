//! The numbers of a task's test rows: the benchmark counts them from 0 and accepts one answer for each.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::data::benchmark::RawFile;

/// The numbers of test rows while they are being read.
#[derive(Default)]
pub struct TestNumbers {
    /// As written.
    written: Vec<String>,
    /// Where each one is.
    places: HashMap<u64, (usize, u64)>,
    files: Vec<RawFile>,
    /// How many rows have none.
    without: usize,
}

impl TestNumbers {
    /// Begins another file.
    pub fn file(&mut self, file: &RawFile) {
        self.files.push(file.clone());
    }

    /// Takes the number of the row at `at` in the latest file; rows of files without numbers are counted.
    ///
    /// # Errors
    /// By file and line: not a number, one that an earlier row has, or missing while other rows have one.
    pub fn take(&mut self, number: Option<String>, column: &str, at: u64) -> Result<()> {
        let file = self.files.len() - 1;
        let here = || self.files[file].cell(at, column);
        let place = self.written.len() as u64;
        let (number, written) = match number {
            Some(written) => match written.trim().parse::<u64>() {
                Ok(number) => (number, written.trim().to_owned()),
                Err(_) => bail!("{}: {written:?} is not a row number", here()),
            },
            None => (place, place.to_string()),
        };
        if let Some(&(file, at)) = self.places.get(&number) {
            let first = self.files[file].place(at);
            bail!(
                "{}: the row's number {number} is also that of {first}; each row needs its own",
                here()
            );
        }
        self.places.insert(number, (file, at));
        self.written.push(written);
        Ok(())
    }

    /// Counts a row without a number.
    pub fn count_without(&mut self) {
        self.without += 1;
    }

    /// The numbers as written, and what to tell the user about them.
    ///
    /// # Errors
    /// By file and line: a number too large for the number of rows.
    pub fn done(self, column: &str) -> Result<(Vec<String>, Option<String>)> {
        let rows = self.written.len() as u64;
        if let Some((number, &(file, at))) = self.places.iter().max_by_key(|(number, _)| **number)
            && *number >= rows
        {
            let missing = (0..rows).find(|number| !self.places.contains_key(number));
            bail!(
                "{}: the row's number is {number}, but none of the {rows} rows, numbered from 0, has {}: rows are \
                 missing, or \
                 these are not the test rows",
                self.files[file].cell(at, column),
                missing.unwrap_or_default()
            );
        }
        let note = (self.without > 0).then(|| {
            format!(
                "{}: there is no column {column:?}: the rows are numbered from 0 in their order",
                self.files[0].name
            )
        });
        Ok((self.written, note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn taken(numbers: &[&str]) -> Result<Vec<String>, String> {
        let mut all = TestNumbers::default();
        all.file(&RawFile::new(Path::new("test.tsv"), true));
        for (number, line) in numbers.iter().zip(2..) {
            all.take(Some((*number).to_owned()), "index", line).map_err(|e| e.to_string())?;
        }
        all.done("index").map(|(written, _)| written).map_err(|e| e.to_string())
    }

    #[test]
    fn rows_are_numbered_from_0_on_each_once_in_any_order() {
        assert_eq!(taken(&["2", " 0", "1"]).unwrap(), ["2", "0", "1"]);
        for (numbers, parts) in [
            (&["0", "1", "1"][..], ["test.tsv:4", "number 1 is also that of test.tsv:3"]),
            (&["0", "3", "1"], ["test.tsv:3", "number is 3, but none of the 3 rows"]),
            (&["1", "2"], ["test.tsv:3", "from 0, has 0"]),
            (&["0", "x"], ["test.tsv:3", "\"x\" is not a row number"]),
            (&["0", ""], ["test.tsv:3", "\"\" is not a row number"]),
            (&["0", "-1"], ["test.tsv:3", "\"-1\" is not a row number"]),
        ] {
            let error = taken(numbers).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
