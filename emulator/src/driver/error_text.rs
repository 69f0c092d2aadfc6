//! The two calls that turn a result code into text.

use std::ffi::{CStr, c_char, c_int};

use super::entry::api;
use super::error::{CudaResult, Error};
use super::types::Out;

fn give(out: &Out<*const c_char>, text: Option<&'static CStr>) -> CudaResult {
    match text {
        Some(text) => out.set(text.as_ptr()),
        None => {
            out.set_optional(std::ptr::null());
            Err(Error::INVALID_VALUE)
        }
    }
}

api! {
    fn cuGetErrorName(error: c_int, text: Out<*const c_char>) {
        give(&text, if error == 0 { Some(c"CUDA_SUCCESS") } else { Error(error).c_name() })
    }

    fn cuGetErrorString(error: c_int, text: Out<*const c_char>) {
        give(&text, Error(error).text())
    }
}
