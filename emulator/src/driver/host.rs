//! Reading the host program's memory without trusting its pointers.

use std::ffi::{c_int, c_ulong, c_void};

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    length: usize,
}

#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn process_vm_readv(
        process: c_int,
        local: *const IoVec,
        local_count: c_ulong,
        remote: *const IoVec,
        remote_count: c_ulong,
        flags: c_ulong,
    ) -> isize;
}

/// Copies host memory; `false` if it is not readable. If the operating system does not let a process ask, the pointer
/// is trusted, as a real driver does.
pub fn read(address: usize, into: &mut [u8]) -> bool {
    if into.is_empty() {
        return true;
    }
    if address == 0 {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        const EPERM: i32 = 1;
        const ENOSYS: i32 = 38;
        let local = IoVec { base: into.as_mut_ptr().cast(), length: into.len() };
        let remote = IoVec { base: address as *mut c_void, length: into.len() };
        // SAFETY: `local` describes `into`; the system call checks the remote range itself.
        let copied =
            unsafe { process_vm_readv(std::process::id() as c_int, &local, 1, &remote, 1, 0) };
        if copied >= 0 {
            return copied as usize == into.len();
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(EPERM | ENOSYS) => {}
            _ => return false,
        }
    }
    // SAFETY: the caller of the C function promises that its pointer is valid for the declared size.
    unsafe { std::ptr::copy_nonoverlapping(address as *const u8, into.as_mut_ptr(), into.len()) };
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let mut bytes = [0; 4];
        assert!(super::read([1u8, 2, 3, 4].as_ptr() as usize, &mut bytes));
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert!(!super::read(16, &mut bytes));
    }
}
