//! What a user can ask for; no device, no model.

pub mod device;
pub mod saving;
