//! `run`: the foreground life of a container, and its exit status.

use crate::harness::*;

tests![exit_status_is_the_programs, program_sees_pid_one];

fn exit_status_is_the_programs() {
    needs(&[Root]);
    for code in [0, 1, 77, 255] {
        Bundle::new()
            .probe(&format!("exit {code}"))
            .run()
            .exits(code);
    }
}

fn program_sees_pid_one() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["ppid"], 0);
}
