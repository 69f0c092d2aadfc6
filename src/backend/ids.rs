//! Checks the ids of a batch against the tables that they index. A GPU reads whatever an id points to, so both backends
//! check here before they run.

use crate::batch::Batch;
use anyhow::{Result, ensure};

/// The largest ids of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LargestIds {
    token: u32,
    position: u32,
    token_type: u32,
}

impl LargestIds {
    pub fn of(batch: &Batch) -> Self {
        let largest = |ids: &[u32]| ids.iter().copied().max().unwrap_or(0);
        Self {
            token: largest(&batch.ids),
            position: largest(&batch.positions),
            token_type: largest(&batch.type_ids),
        }
    }

    /// Checks them against the rows of the tables of tokens, positions and token types. A one-type table (RoBERTa's)
    /// serves every token, whatever its type.
    ///
    /// # Errors
    /// If an id has no row.
    pub fn check(self, [tokens, positions, types]: [usize; 3]) -> Result<()> {
        let token_type = if types == 1 { 0 } else { self.token_type };
        for (what, most, rows) in [
            ("token id", self.token, tokens),
            ("position id", self.position, positions),
            ("token type", token_type, types),
        ] {
            ensure!(
                (most as usize) < rows,
                "{what} {most} is outside its embedding table of {rows} rows"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_is_there_and_the_next_is_not() {
        let ids = LargestIds { token: 9, position: 4, token_type: 1 };
        assert!(ids.check([10, 5, 2]).is_ok());
        assert!(ids.check([10, 5, 1]).is_ok());
        for (rows, said) in [([9, 5, 2], "token id 9"), ([10, 4, 2], "position id 4")] {
            let error = ids.check(rows).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let third = LargestIds { token_type: 2, ..ids };
        assert!(third.check([10, 5, 2]).is_err());
        assert!(ids.check([10, 5, 0]).is_err());
        let all = LargestIds { token: u32::MAX, ..ids };
        assert!(all.check([u32::MAX as usize, 5, 2]).is_err());
    }
}
