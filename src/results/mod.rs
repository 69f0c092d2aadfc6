//! The results of several runs compared: rows, statistics over seeds, tables and pictures.

pub mod bootstrap;
pub mod groups;
pub mod history;
pub mod moved;
pub mod page;
pub mod pictures;
pub mod report;
pub mod rows;
pub mod statistics;
pub mod table;
pub mod units;
