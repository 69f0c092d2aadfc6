//! A model fetched from a hub: one that behaves, one that breaks off, and one that is hostile.

mod attempt;
mod broken;
mod fetching;
mod hostile;
mod server;
