//! How long ranks take to add up their results, by bytes: `mpirun -n 4 cargo bench --features mpi --bench exchange`
//! prints a table with the fastest and median of many exchanges. Not criterion: all ranks measure together.

use bitfit::ranks::join;
use std::time::Instant;

/// Of only a head, of MiniLM's, BERT-base's and BERT-large's biases, and of full fine-tuning of MiniLM.
const SIZES: [(&str, usize); 5] = [
    ("1 KiB", 1 << 10),
    ("MiniLM's biases", 4 * 26_884),
    ("BERT-base's biases", 4 * 104_452),
    ("BERT-large's biases", 4 * 276_484),
    ("16 MiB", 16 << 20),
];

fn main() {
    let ranks = match join() {
        Ok(ranks) => ranks,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::exit(2);
        }
    };
    let share = ranks.share();
    if ranks.first() {
        println!(
            "{:<22}{:>12}{:>14}{:>14}",
            format!("{} ranks", share.of),
            "bytes",
            "fastest, µs",
            "median, µs"
        );
    }
    for (name, bytes) in SIZES {
        let mut values = vec![1e-3f32; bytes / 4];
        let rounds = if bytes > 1 << 20 { 30 } else { 300 };
        let mut times: Vec<f64> = (0..rounds)
            .map(|_| {
                // All start together.
                let mut start = [0.0];
                ranks.sum(&mut start).unwrap_or_else(|e| panic!("{e:#}"));
                let began = Instant::now();
                ranks.sum(&mut values).unwrap_or_else(|e| panic!("{e:#}"));
                values.fill(1e-3);
                1e6 * began.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        if ranks.first() {
            println!("{name:<22}{bytes:>12}{:>14.1}{:>14.1}", times[0], times[times.len() / 2]);
        }
    }
}
