//! Where a label cell holds several labels or numbers.

use crate::data::LIST;
use crate::settings::task::Task;

/// How a label cell is taken apart. A JSON list always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splitting(Option<String>);

impl Splitting {
    /// Lists alone are taken apart.
    pub const LISTS: Self = Self(None);

    pub fn at(separator: &str) -> Self {
        Self(Some(separator.to_owned()))
    }

    /// That of a task where the user names this separator, or none: labels are words, which a comma may part, and a number
    /// may be written with a comma.
    pub fn of(task: Task, separator: Option<&str>) -> Self {
        match (task, separator) {
            (_, Some(separator)) => Self::at(separator),
            (Task::MultiLabel, None) => Self::at(","),
            (_, None) => Self::LISTS,
        }
    }

    /// What stands between two parts where they are written.
    pub fn separator(&self) -> &str {
        self.0.as_deref().unwrap_or(",")
    }

    pub fn parts<'a>(&'a self, cell: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match &self.0 {
            _ if cell.contains(LIST) => Box::new(cell.split(LIST).skip(1)),
            Some(separator) => Box::new(cell.split(separator.as_str())),
            None => Box::new(std::iter::once(cell)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_taken_apart_where_the_user_says_so_or_it_was_a_list() {
        let parts = |splitting: &Splitting, cell| {
            splitting.parts(cell).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(parts(&Splitting::LISTS, "0,5"), ["0,5"]);
        assert_eq!(parts(&Splitting::at(","), "0,5"), ["0", "5"]);
        let list = format!("{LIST}0.5{LIST}1");
        assert_eq!(parts(&Splitting::LISTS, &list), ["0.5", "1"]);
    }
}
