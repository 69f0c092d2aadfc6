//! What is asked of an encoder: the head on its hidden states, and the loss.

pub mod head;
