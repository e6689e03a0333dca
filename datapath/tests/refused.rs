//! refused checks what a person reads where io_uring is filtered away, as in most containers.
//!
//! A seccomp filter cannot be taken off again, so each case runs in a process of its own: this
//! test binary, started again with the errno in the environment.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the other process says what it read")]

use std::process::Command;

use quiclane_datapath::{Epoll, RingMode, Uring, UringOptions};

const VARIABLE: &str = "QUICLANE_TEST_REFUSE_IO_URING_WITH";

#[test]
fn a_container_without_io_uring_is_explained() {
    if let Ok(errno) = std::env::var(VARIABLE) {
        return in_a_process_of_its_own(errno.parse().unwrap());
    }
    for (errno, remedies) in [
        (libc::EPERM, ["seccomp profile", "sysctl -w kernel.io_uring_disabled=0"]),
        (libc::ENOSYS, ["seccomp profile", "6.1 or later"]),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_container_without_io_uring_is_explained", "--nocapture"])
            .env(VARIABLE, errno.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.matches("io_uring_setup was refused").count(), 2, "{text}");
        for remedy in remedies {
            assert_eq!(text.matches(remedy).count(), 2, "{text}");
        }
    }
}

fn in_a_process_of_its_own(errno: u32) {
    refuse_io_uring(errno);
    println!("probe: {}", Uring::probe(RingMode::Defer).unwrap_err());
    println!("new: {}", Uring::new(&UringOptions::default()).unwrap_err());
    // The other backend works there.
    Epoll::new(1).unwrap();
}

/// Makes io_uring_setup fail with `errno` from here on.
fn refuse_io_uring(errno: u32) {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let number = u32::try_from(libc::SYS_io_uring_setup).expect("a small number");
    let mut program = [
        libc::sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | errno },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: no pointers are involved.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its instructions live across the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
