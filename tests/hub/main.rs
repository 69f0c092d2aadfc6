//! A model or a data set fetched from a hub: one that behaves, one that breaks off, and one that is hostile.

mod attempt;
mod broken;
mod dataset;
mod fetching;
mod hostile;
mod server;
