//! Pictures of what runs have found.
