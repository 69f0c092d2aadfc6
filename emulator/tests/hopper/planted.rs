//! The same defects planted in nvcc's output (fixtures/hopper): a line of the PTX is removed, moved or changed. Each is
//! found under twenty warp orders, by a report or, if noted, by the numbers, and the correct twin has no report.

use crate::device::{Hopper, seeds};
use crate::persistent::{DIRECT, Product, STAGED, fixture};
use crate::pipeline::attend;
use emulator::FaultKind::{self, *};

/// W is stored by k: descriptors of the other major order.
const BY_K: Product = Product { kernel: "nn_128x192", by_k: true, ..STAGED };

/// Two tiles for each of two blocks, and more steps than stages.
const SIZES: [usize; 2] = [328, 264];

/// Replaces or removes all lines that begin this way.
fn lines(text: &str, begin: &str, mut change: impl FnMut(&str) -> String) -> String {
    let mut found = false;
    let changed = text.lines().map(|line| match line.trim_start().starts_with(begin) {
        true => {
            found = true;
            change(line)
        }
        false => line.to_string(),
    });
    let text = changed.collect::<Vec<_>>().join("\n");
    assert!(found, "no line begins {begin:?}");
    text
}

fn without(text: &str, begin: &str) -> String {
    lines(text, begin, |_| String::new())
}

/// Removes only the `n`th of the lines that begin this way.
fn without_one(text: &str, begin: &str, n: usize) -> String {
    let mut at = 0;
    lines(text, begin, |line| {
        at += 1;
        if at == n + 1 { String::new() } else { line.to_string() }
    })
}

/// Each of these programs is reported under every order.
fn found(products: &[Product], change: impl Fn(&str) -> String, kinds: &[FaultKind]) {
    for p in products {
        let text = p.text();
        let changed = change(&text);
        assert_ne!(text, changed);
        for seed in seeds() {
            match p.run(&changed, SIZES, &Hopper::seeded(seed)) {
                Ok(wrong) => panic!("{}, seed {seed:?}: nothing reported; {wrong:?}", p.kernel),
                Err(f) if kinds.contains(&f.kind) => {}
                Err(f) => panic!("{}, seed {seed:?}: {f}", p.kernel),
            }
        }
    }
}

/// Without a report, a number must be wrong.
fn wrong(p: Product, change: impl Fn(&str) -> String, kinds: &[FaultKind]) {
    let changed = change(&p.text());
    match p.run(&changed, SIZES, &Hopper::new()) {
        Ok(None) => panic!("{}: all numbers are right", p.kernel),
        Err(f) if !kinds.contains(&f.kind) => panic!("{}: {f}", p.kernel),
        _ => {}
    }
}

/// The consumers' part of a kernel, and the producer's, which nvcc puts after it.
fn parts(text: &str) -> (&str, &str) {
    text.split_at(text.find("setmaxnreg.dec").expect("a producer"))
}

const LOOP: &str = "@!p bra AGAIN;";

#[test]
fn the_correct_products_are_right_and_not_accused() {
    for p in [DIRECT, STAGED, BY_K] {
        let text = p.text();
        for seed in seeds() {
            let wrong = p.run(&text, SIZES, &Hopper::seeded(seed));
            let wrong = wrong.unwrap_or_else(|f| panic!("{}, seed {seed:?}: {f}", p.kernel));
            assert_eq!(wrong, None, "{}, seed {seed:?}", p.kernel);
        }
    }
}

#[test]
fn no_fence_before_products() {
    found(&[DIRECT, STAGED], |t| without(t, "wgmma.fence"), &[MissingFence]);
}

#[test]
fn no_wait_or_too_large_a_one() {
    let last = "wgmma.wait_group.sync.aligned 0;";
    found(&[DIRECT, STAGED], |t| without(t, last), &[PendingProduct, SharedRace]);
    let few = |t: &str| t.replace("wait_group.sync.aligned 1;", "wait_group.sync.aligned 2;");
    found(&[DIRECT, STAGED], few, &[SharedRace]);
}

#[test]
fn a_stage_freed_before_the_wait() {
    // The wait moves behind the arrival that frees the stage: to the label that ends its condition.
    let later = |text: &str| {
        let wait = "wgmma.wait_group.sync.aligned 1;";
        let mut moving = false;
        let mut out = String::new();
        for line in text.lines() {
            if line.trim() == wait {
                moving = true;
                continue;
            }
            out += line;
            out.push('\n');
            if moving && line.starts_with('$') {
                out += wait;
                moving = false;
            }
        }
        assert!(!moving);
        out
    };
    found(&[DIRECT, STAGED], later, &[SharedRace]);
}

#[test]
fn answers_of_barriers_that_are_ignored() {
    let producer = |t: &str| {
        let (consumers, producer) = parts(t);
        consumers.to_string() + &producer.replace(LOOP, "")
    };
    found(&[DIRECT, STAGED], producer, &[SharedRace, PendingAsyncCopy, BarrierDivergence]);
    let consumers = |t: &str| {
        let (consumers, producer) = parts(t);
        consumers.replace(LOOP, "") + producer
    };
    found(&[DIRECT, STAGED], consumers, &[PendingAsyncCopy, UninitialisedRead]);
}

#[test]
fn barriers_used_before_they_are_known_to_be_there() {
    let begin = "bar.sync \t0;";
    found(&[DIRECT, STAGED], |t| without(t, begin), &[SharedRace, UninitialisedRead]);
}

#[test]
fn expected_bytes_too_many_or_too_few() {
    let expect = "mbarrier.arrive.expect_tx";
    let bytes = (128 + 192) * 64 * 2;
    let other = |n: u32| {
        move |t: &str| {
            lines(t, expect, |line| {
                let (front, _) = line.rsplit_once(", ").expect("operands");
                format!("{front}, {n};")
            })
        }
    };
    found(&[DIRECT, STAGED], other(bytes + 16), &[Deadlock]);
    let few = [PendingAsyncCopy, SharedRace, Deadlock];
    found(&[DIRECT, STAGED], other(bytes - 16), &few);
    found(&[DIRECT, STAGED], other(128 * 64 * 2), &few);
    let p = DIRECT;
    let same = other(bytes)(&p.text());
    assert_eq!(p.run(&same, SIZES, &Hopper::new()).expect("no report"), None);
}

#[test]
fn staging_memory_that_is_not_guarded() {
    let begin = "bar.sync %r";
    // The first of the two barriers says that the last store has read, the second that all have written.
    found(&[STAGED], |t| without_one(t, begin, 0), &[SharedRace]);
    found(&[STAGED], |t| without_one(t, begin, 1), &[SharedRace, UninitialisedRead]);
    found(&[STAGED], |t| without(t, "fence.proxy.async"), &[MissingFence]);
    found(&[STAGED], |t| without(t, "cp.async.bulk.wait_group.read"), &[SharedRace]);
    found(&[STAGED], |t| without(t, "cp.async.bulk.commit_group"), &[SharedRace]);
    let few = |t: &str| t.replace("wait_group.read 0;", "wait_group.read 1;");
    found(&[STAGED], few, &[SharedRace]);
}

/// After its store, a thread of the first block reads the first word that this block stores: with a wait, or without.
#[test]
fn what_a_bulk_store_has_yet_to_write_is_read() {
    let text = |wait: &str| {
        lines(&STAGED.text(), "cp.async.bulk.commit_group", |line| {
            format!(
                "{line}\n{wait}\n{{\n.reg .pred mine;\n.reg .b64 at;\n.reg .b32 word;\nmov.u32 word, %ctaid.x;\n\
                 setp.eq.u32 mine, word, 0;\nld.param.u64 at, [nt_128x192_param_0+408];\n@mine ld.global.u32 word, [at];\n}}"
            )
        })
    };
    for seed in seeds() {
        let run = |wait: &str| STAGED.run(&text(wait), SIZES, &Hopper::seeded(seed));
        for short in ["", "cp.async.bulk.wait_group.read 0;"] {
            let fault = run(short).expect_err("read too early");
            assert_eq!(fault.kind, PendingAsyncCopy, "{short:?}, seed {seed:?}: {fault}");
        }
        let whole = run("cp.async.bulk.wait_group 0;");
        assert_eq!(whole.unwrap_or_else(|f| panic!("seed {seed:?}: {f}")), None);
    }
}

#[test]
fn sums_that_are_never_set() {
    let always = |t: &str| {
        lines(t, "setp.ne.b32 p, %r", |line| {
            let r = line.trim().split([' ', ',']).find(|x| x.starts_with('%')).expect("a register");
            format!("setp.eq.b32 p, {r}, {r};")
        })
    };
    found(&[DIRECT, STAGED], always, &[UninitialisedRead]);
}

#[test]
fn descriptors_that_say_something_else() {
    let faults = [Misaligned, UninitialisedRead, PendingAsyncCopy, SharedRace, OutOfBounds];
    wrong(STAGED, |t| t.replace("p, 1, 1, 0, 0;", "p, 1, 1, 0, 1;"), &faults);
    wrong(BY_K, |t| t.replace("p, 1, 1, 0, 1;", "p, 1, 1, 0, 0;"), &faults);
    // The upper half holds the stride of eight rows and the mode; 1 is a swizzle of 128 bytes.
    let field = |from: u64, to: u64| {
        move |t: &str| {
            let changed = t.replace(&format!(", {from};"), &format!(", {to};"));
            assert_ne!(t, changed, "{from}");
            changed
        }
    };
    let (k_major, mn_major) = (0x4000_0040_0001_0000u64, 0x4000_0040_0200_0000u64);
    wrong(STAGED, field(k_major, k_major ^ 0xc000_0000_0000_0000), &faults);
    wrong(STAGED, field(k_major, k_major ^ 0x0000_00c0_0000_0000), &faults);
    wrong(BY_K, field(mn_major, mn_major ^ 0x0000_0000_0600_0000), &faults);
}

#[test]
fn a_register_pool_overdrawn() {
    found(&[DIRECT, STAGED], |t| t.replace("u32 232;", "u32 240;"), &[Deadlock]);
}

#[test]
fn a_map_that_is_not_aligned() {
    let moved = |t: &str| {
        lines(t, "cp.async.bulk.tensor.2d.shared", |line| {
            let map = line.split(['[', ',', ']']).find(|x| x.starts_with("%rd")).expect("a map");
            format!("add.s64 {map}, {map}, 32;\n{line}")
        })
    };
    found(&[DIRECT, STAGED], moved, &[Misaligned]);
}

#[test]
fn a_warpgroup_in_parts() {
    let leave = |n: u32, of: u32| {
        move |t: &str| {
            lines(t, "setmaxnreg.inc", |line| {
                format!(
                    "{line}\n{{\n.reg .pred gone;\n.reg .b32 me;\nmov.u32 me, %tid.x;\nand.b32 me, me, {of};\n\
                     setp.eq.u32 gone, me, {n};\n@gone ret;\n}}"
                )
            })
        }
    };
    // One thread, and one warp.
    found(&[DIRECT, STAGED], leave(165, 511), &[BadMemberMask, Deadlock]);
    let warp = leave(160, 0x1e0);
    found(&[DIRECT, STAGED], warp, &[BadMemberMask, Deadlock]);
}

/// The previous launch has written what this one reads.
#[test]
fn a_dependent_launch_that_does_not_wait() {
    let p = DIRECT;
    let text = p.text();
    let waits = lines(&text, "bar.sync \t0;", |line| format!("griddepcontrol.wait;\n{line}"));
    for seed in seeds() {
        let run = |text: &str| {
            let mut hopper = Hopper::seeded(seed);
            hopper.dependent = true;
            p.run(text, SIZES, &hopper)
        };
        let fault = run(&text).expect_err("reads too early");
        assert_eq!(fault.kind, GlobalRace, "seed {seed:?}: {fault}");
        assert_eq!(run(&waits).unwrap_or_else(|f| panic!("seed {seed:?}: {f}")), None);
    }
}

/// Attention writes its operands by ordinary stores and keeps the weights in registers.
#[test]
fn operands_that_threads_write() {
    let text = fixture("attention.ptx.gz");
    let cases: [(&str, &[FaultKind]); 5] = [
        ("fence.proxy.async", &[MissingFence]),
        ("bar.sync", &[SharedRace, UninitialisedRead]),
        ("wgmma.fence", &[MissingFence]),
        ("wgmma.wait_group", &[PendingProduct, SharedRace]),
        ("wgmma.commit_group", &[PendingProduct, SharedRace]),
    ];
    for (begin, kinds) in cases {
        let changed = without(&text, begin);
        for seed in seeds() {
            let fault = attend(&changed, seed).expect_err(begin);
            assert!(kinds.contains(&fault.kind), "{begin}, seed {seed:?}: {fault}");
        }
    }
}
