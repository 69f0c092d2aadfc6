//! mbarriers that count bytes: phases, parities, and tests that fail.

use crate::device::{Hopper, Param, kernel};
use emulator::FaultKind;

/// Runs a body for one thread, which leaves its answers in `%d0` and up.
fn answers(body: &str, count: usize) -> Result<Vec<u32>, Box<emulator::Fault>> {
    let hopper = Hopper::new();
    let out = hopper.alloc(4 * count);
    let mut text = String::from("setp.ne.u32 %p, %tid0, 0;\n@%p bra END;\n");
    for j in 0..count {
        text += &format!("mov.u32 %d{j}, 77;\n");
    }
    text += body;
    for j in 0..count {
        text += &format!("st.global.u32 [%out+{}], %d{j};\n", 4 * j);
    }
    text += "END:\n";
    let text = kernel(32, "", &format!(".reg .b32 %d<{count}>;\n"), &text);
    hopper.run(&text, (1, 32, 16), &[Param::Pointer(out), Param::Pointer(out)])?;
    Ok(hopper.words(out, count))
}

fn ask(form: &str, what: &str, into: usize) -> String {
    format!("mbarrier.{form} %q, [bar], {what};\nselp.u32 %d{into}, 1, 0, %q;\n")
}

const PARITY: &str = "test_wait.parity.shared::cta.b64";

#[test]
fn a_phase_ends_when_arrivals_and_bytes_have_come() {
    let body = [
        "mbarrier.init.shared::cta.b64 [bar], 2;\n",
        &ask(PARITY, "0", 0),
        "mbarrier.arrive.expect_tx.shared::cta.b64 %token, [bar], 64;\n",
        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 48;\n",
        &ask(PARITY, "0", 1),
        "mbarrier.arrive.shared::cta.b64 _, [bar];\n",
        &ask(PARITY, "0", 2),
        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 16;\n",
        &ask(PARITY, "0", 3),
        &ask(PARITY, "1", 4),
        &ask("try_wait.shared::cta.b64", "%token", 5),
    ];
    assert_eq!(answers(&body.concat(), 6).expect("no report"), [0, 0, 0, 1, 0, 1]);
}

#[test]
fn an_mbarrier_is_initialised_again_only_after_it_was_invalidated() {
    let init = "mbarrier.init.shared.b64 [bar], 1;\n";
    let inval = "mbarrier.inval.shared.b64 [bar];\n";
    let phase = ["mbarrier.arrive.shared.b64 _, [bar];\n", &ask(PARITY, "0", 0)].concat();
    let right = [init, &phase, inval, init, &phase].concat();
    assert_eq!(answers(&right, 1).expect("no report"), [1]);
    for between in ["", &phase, &phase.repeat(2)] {
        let wrong = [init, between, init, &phase].concat();
        let fault = answers(&wrong, 1).expect_err("it is valid");
        assert!(fault.message.contains("without mbarrier.inval"), "{fault:?}");
    }
}

#[test]
fn bytes_may_come_before_they_are_expected() {
    let body = [
        "mbarrier.init.shared.b64 [bar], 1;\n",
        "mbarrier.complete_tx.relaxed.cta.shared.b64 [bar], 4096;\n",
        &ask(PARITY, "0", 0),
        "mbarrier.expect_tx.relaxed.cta.shared.b64 [bar], 1024;\n",
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [bar], 3072;\n",
        &ask("try_wait.parity.acquire.cta.shared::cta.b64", "0", 1),
    ];
    assert_eq!(answers(&body.concat(), 2).expect("no report"), [0, 1]);
}

#[test]
fn parities_through_three_phases() {
    let mut body = String::from("mbarrier.init.shared.b64 [bar], 1;\n");
    for phase in 0..3 {
        body += &ask(PARITY, "0", 4 * phase);
        body += &ask(PARITY, "1", 4 * phase + 1);
        body += "mbarrier.arrive.shared.b64 %token, [bar];\n";
        body += &ask(PARITY, "0", 4 * phase + 2);
        body += &ask(PARITY, "1", 4 * phase + 3);
    }
    assert_eq!(answers(&body, 12).expect("no report"), [0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0]);
}

#[test]
fn forms_that_refer_to_the_own_block() {
    let body = [
        "mbarrier.init.shared::cta.b64 [bar], 1;\nfence.mbarrier_init.release.cluster;\n",
        "mov.u32 %s, bar;\nmapa.shared::cluster.u32 %t, %s, 0;\n",
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%t];\n",
        &ask(PARITY, "0", 0),
        "mov.u32 %t, %cluster_ctarank;\nadd.u32 %d1, %t, 5;\n",
    ];
    assert_eq!(answers(&body.concat(), 2).expect("no report"), [1, 5]);
    let remote = "mbarrier.init.shared::cta.b64 [bar], 1;\nmov.u32 %s, bar;\nmapa.shared::cluster.u32 %t, %s, 1;\n";
    let fault = answers(remote, 1).expect_err("another block of a cluster");
    assert_eq!(fault.kind, FaultKind::IllegalInstruction, "{fault}");
}

#[test]
fn misuse_is_reported() {
    let many = "mbarrier.init.shared.b64 [bar], 1;\nmbarrier.expect_tx.relaxed.cta.shared.b64 [bar], 1048576;\n";
    assert_eq!(answers(many, 1).expect_err("too many bytes").kind, FaultKind::IllegalInstruction);
    let last = "mbarrier.init.shared.b64 [bar], 2;\nmbarrier.arrive.noComplete.shared.b64 %token, [bar], 2;\n";
    assert_eq!(answers(last, 1).expect_err("it completes").kind, FaultKind::IllegalInstruction);
    let fresh = "mbarrier.arrive.shared.b64 %token, [bar];\n";
    assert_eq!(answers(fresh, 1).expect_err("not initialised").kind, FaultKind::UninitialisedRead);
    let never = "mbarrier.init.shared.b64 [bar], 2;\nmbarrier.arrive.shared.b64 %token, [bar];\n\
                 W:\nmbarrier.try_wait.parity.shared.b64 %q, [bar], 0;\n@!%q bra W;\n";
    let fault = answers(never, 1).expect_err("nobody arrives");
    assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
    assert!(fault.message.contains("1 of 2 arrivals"), "{fault}");
}
