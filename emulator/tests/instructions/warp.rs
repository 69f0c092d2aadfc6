//! Exchange within a warp: shfl.sync, vote, match, activemask, redux, elect.

use crate::harness::*;

/// Lane i holds 100 + i.
fn hundreds() -> Vec<Vec<u32>> {
    (0..32).map(|i| vec![100 + i]).collect()
}

fn column(declarations: &str, body: &str, inputs: &[Vec<u32>]) -> Vec<u32> {
    lanes(declarations, body, 1, inputs).into_iter().map(|d| d[0]).collect()
}

/// The manual's pseudocode of shfl, per lane: (source lane, predicate).
fn shuffle(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (bval, cval, mask) = (b & 31, c & 31, (c >> 8) & 31);
    let max_lane = (lane & mask) | (cval & !mask);
    let min_lane = lane & mask;
    let (j, p) = match mode {
        "up" => (lane.wrapping_sub(bval), lane as i32 - bval as i32 >= max_lane as i32),
        "down" => (lane + bval, lane + bval <= max_lane),
        "bfly" => (lane ^ bval, lane ^ bval <= max_lane),
        _ => (min_lane | (bval & !mask), min_lane | (bval & !mask) <= max_lane),
    };
    if p { (j, true) } else { (lane, false) }
}

#[test]
fn shfl() {
    for mode in ["up", "down", "bfly", "idx"] {
        for width in [32u32, 16, 8, 4, 2] {
            // The clamp operand as CUDA builds it: the segment mask, and 0 or 31 below.
            let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
            for b in [0u32, 1, 2, 3, 5, 8, 16, 31] {
                let body = format!(
                    "shfl.sync.{mode}.b32 %d0|%p, %a0, {b}, {c}, 0xffffffff;\nselp.b32 %d1, 1, 0, %p;"
                );
                let out = lanes(".reg .pred %p;\n", &body, 2, &hundreds());
                for (lane, got) in out.iter().enumerate() {
                    let (from, valid) = shuffle(mode, lane as u32, b, c);
                    assert_eq!(
                        got,
                        &[100 + from, u32::from(valid)],
                        "data movement and conversion: shfl.{mode} {b} width {width} lane {lane}"
                    );
                }
            }
        }
    }
    // Lane-dependent sources, no predicate output, register operands.
    let body = "shfl.sync.idx.b32 %d0, %a0, %a1, 31, -1;";
    let inputs: Vec<Vec<u32>> = (0..32).map(|i| vec![i * 3, 31 - i]).collect();
    let out = column("", body, &inputs);
    assert!(out.iter().enumerate().all(|(i, &x)| x == 3 * (31 - i as u32)));
    // A sub-warp mask: only the upper half.
    let body = "setp.ge.u32 %p, %tid0, 16;\n@%p shfl.sync.bfly.b32 %d0, %a0, 1, 31, 0xffff0000;";
    let out = column(".reg .pred %p;\n", body, &hundreds());
    for (i, &x) in out.iter().enumerate() {
        assert_eq!(x, if i < 16 { 0xdddd_dddd } else { 100 + (i as u32 ^ 1) });
    }
}

#[test]
fn vote_and_masks() {
    // a0 = 1 in lanes 3 and 7.
    let marked: Vec<Vec<u32>> = (0..32).map(|i| vec![u32::from(i == 3 || i == 7)]).collect();
    let flags = ".reg .pred %p, %q;\n";
    let vote = |text: &str, inputs: &[Vec<u32>]| {
        let body = format!("setp.ne.b32 %p, %a0, 0;\n{text}");
        column(flags, &body, inputs)
    };
    let all = |x: u32| vec![x; 32];
    assert_eq!(
        vote("vote.sync.ballot.b32 %d0, %p, -1;", &marked),
        all(0x88),
        "parallel synchronization and communication: vote.ballot"
    );
    assert_eq!(
        vote("vote.sync.ballot.b32 %d0, !%p, -1;", &marked),
        all(!0x88),
        "parallel synchronization and communication: vote.ballot, negated"
    );
    assert_eq!(
        vote("vote.sync.any.pred %q, %p, -1;\nselp.b32 %d0, 1, 0, %q;", &marked),
        all(1),
        "parallel synchronization and communication: vote.any"
    );
    assert_eq!(
        vote("vote.sync.all.pred %q, %p, -1;\nselp.b32 %d0, 1, 0, %q;", &marked),
        all(0),
        "parallel synchronization and communication: vote.all"
    );
    assert_eq!(
        vote("vote.sync.uni.pred %q, %p, -1;\nselp.b32 %d0, 1, 0, %q;", &marked),
        all(0),
        "parallel synchronization and communication: vote.uni"
    );
    let ones = vec![vec![1]; 32];
    assert_eq!(
        vote("vote.sync.all.pred %q, %p, -1;\nselp.b32 %d0, 1, 0, %q;", &ones),
        all(1),
        "parallel synchronization and communication: vote.all"
    );
    assert_eq!(
        vote("vote.sync.uni.pred %q, %p, -1;\nselp.b32 %d0, 1, 0, %q;", &ones),
        all(1),
        "parallel synchronization and communication: vote.uni"
    );
    let active = "setp.ne.b32 %p, %a0, 0;\n@%p activemask.b32 %d0;";
    for (i, x) in column(flags, active, &marked).into_iter().enumerate() {
        assert_eq!(
            x,
            if i == 3 || i == 7 { 0x88 } else { 0xdddd_dddd },
            "parallel synchronization and communication: activemask"
        );
    }
    // A block of 40: the second warp has eight lanes.
    let partial = vec![vec![1]; 40];
    let out = vote("activemask.b32 %d0;", &partial);
    assert_eq!((out[0], out[39]), (u32::MAX, 0xff));
    let elect = "elect.sync %d0|%p, -1;\nselp.b32 %d1, 1, 0, %p;";
    let out = lanes(flags, elect, 2, &marked);
    assert_eq!(
        out.iter().map(|d| d[1]).sum::<u32>(),
        1,
        "parallel synchronization and communication: elect"
    );
    assert!(out.iter().all(|d| out[d[0] as usize][1] == 1));
}

#[test]
fn match_sync() {
    let groups: Vec<Vec<u32>> = (0..32).map(|i| vec![i % 3]).collect();
    let out = column("", "match.any.sync.b32 %d0, %a0, -1;", &groups);
    for (i, &x) in out.iter().enumerate() {
        let want = (0..32).filter(|j| j % 3 == i as u32 % 3).fold(0, |m, j| m | 1 << j);
        assert_eq!(x, want, "parallel synchronization and communication: match.any");
    }
    let body = "match.all.sync.b32 %d0|%p, %a0, -1;\nselp.b32 %d1, 1, 0, %p;";
    let out = lanes(".reg .pred %p;\n", body, 2, &groups);
    assert!(
        out.iter().all(|d| d == &[0, 0]),
        "parallel synchronization and communication: match.all"
    );
    let same = vec![vec![9]; 32];
    let out = lanes(".reg .pred %p;\n", body, 2, &same);
    assert!(
        out.iter().all(|d| d == &[u32::MAX, 1]),
        "parallel synchronization and communication: match.all"
    );
    let wide = "mov.b64 %w, {%a0, %tid0};\nmatch.any.sync.b64 %d0, %w, -1;";
    let out = column(".reg .b64 %w;\n", wide, &same);
    assert!(
        out.iter().enumerate().all(|(i, &x)| x == 1 << i),
        "parallel synchronization and communication: match.any.b64"
    );
}

#[test]
fn redux() {
    let values: Vec<u32> =
        (0..32).map(|i: u32| i.wrapping_mul(0x9e37_79b9) ^ 0x8000_0001).collect();
    let inputs: Vec<Vec<u32>> = values.iter().map(|&v| vec![v]).collect();
    let signed = || values.iter().map(|&v| v as i32);
    for (op, want) in [
        ("add.u32", values.iter().fold(0u32, |a, &b| a.wrapping_add(b))),
        ("add.s32", values.iter().fold(0u32, |a, &b| a.wrapping_add(b))),
        ("min.u32", *values.iter().min().unwrap()),
        ("max.u32", *values.iter().max().unwrap()),
        ("min.s32", signed().min().unwrap() as u32),
        ("max.s32", signed().max().unwrap() as u32),
        ("and.b32", values.iter().fold(u32::MAX, |a, b| a & b)),
        ("or.b32", values.iter().fold(0, |a, b| a | b)),
        ("xor.b32", values.iter().fold(0, |a, b| a ^ b)),
    ] {
        let out = column("", &format!("redux.sync.{op} %d0, %a0, 0xffffffff;"), &inputs);
        assert!(
            out.iter().all(|&x| x == want),
            "parallel synchronization and communication: redux.{op}"
        );
    }
    let body = "setp.lt.u32 %p, %tid0, 4;\n@%p redux.sync.add.u32 %d0, %a0, 15;";
    let out = column(".reg .pred %p;\n", body, &hundreds());
    assert_eq!(
        out[0],
        100 + 101 + 102 + 103,
        "parallel synchronization and communication: redux of some lanes"
    );
    assert_eq!(out[4], 0xdddd_dddd);
}

/// The idioms that reductions are built from.
#[test]
fn tree_reductions() {
    let mut body = String::from("mov.b32 %d0, %a0;\n");
    for step in [16, 8, 4, 2, 1] {
        body += &format!("shfl.sync.bfly.b32 %v, %d0, {step}, 31, -1;\nadd.s32 %d0, %d0, %v;\n");
    }
    let out = column(".reg .b32 %v;\n", &body, &hundreds());
    assert!(out.iter().all(|&x| x == (100..132).sum::<u32>()));
    // An inclusive scan: the predicate says whether the source lane exists.
    let mut body = String::from("mov.b32 %d0, %a0;\n");
    for step in [1, 2, 4, 8, 16] {
        body +=
            &format!("shfl.sync.up.b32 %v|%p, %d0, {step}, 0, -1;\n@%p add.s32 %d0, %d0, %v;\n");
    }
    let out = column(".reg .b32 %v;\n.reg .pred %p;\n", &body, &hundreds());
    assert!(out.iter().enumerate().all(|(i, &x)| x == (100..=100 + i as u32).sum::<u32>()));
}
