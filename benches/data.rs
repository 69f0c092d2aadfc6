//! How fast texts become packed batches. The rate must stay far above what training consumes.
//!
//! Runs on a made-up vocabulary and made-up texts of 3 to 40 words; `BITFIT_BENCH_MODEL=FOLDER` uses the tokenizer of a
//! real checkpoint instead.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

use bitfit::batch::Labels;
use bitfit::data::{
    BatchLimits, Dataset, Order, Positions, Row, RunLength, Sampler, TextTokenizer,
    TokenizerOptions,
};
use bitfit::rng::{Purpose, Stream};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 2_000;
const WORDS: u64 = 5_000;

/// Letters and word stems of one to three syllables, as in a small WordPiece vocabulary.
fn vocabulary(random: &mut Stream) -> Vec<String> {
    let mut words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    for letter in 'a'..='z' {
        words.push(letter.to_string());
        words.push(format!("##{letter}"));
    }
    while (words.len() as u64) < WORDS {
        let syllables = 1 + random.below(3);
        let stem: String = (0..syllables).map(|_| syllable(random)).collect();
        words.push(if random.below(4) == 0 { format!("##{stem}") } else { stem });
    }
    words
}

fn syllable(random: &mut Stream) -> String {
    let letter =
        |random: &mut Stream, of: &[u8]| of[random.below(of.len() as u64) as usize] as char;
    [letter(random, b"bcdfghklmnprstvw"), letter(random, b"aeiou")].iter().collect()
}

fn rows(random: &mut Stream) -> Vec<Row> {
    let text = |random: &mut Stream| {
        let mut text = String::new();
        for _ in 0..3 + random.below(38) {
            for _ in 0..1 + random.below(4) {
                text += &syllable(random);
            }
            text.push(' ');
        }
        text
    };
    (0..ROWS)
        .map(|i| Row { line: i as u64 + 2, text: text(random), text_pair: None, label: None })
        .collect()
}

fn load(folder: &Path) -> TextTokenizer {
    let options = TokenizerOptions {
        vocab_size: usize::MAX,
        type_rows: 2,
        max_len: 128,
        positions: Positions { offset: 0 },
    };
    TextTokenizer::load(folder, options).expect("a tokenizer folder")
}

fn data(c: &mut Criterion) {
    let mut random = Stream::new(1, Purpose::Shuffle, 0);
    let made_up = tempfile::tempdir().expect("a temporary folder");
    let mut vocab = String::new();
    vocabulary(&mut random).iter().for_each(|word| writeln!(vocab, "{word}").expect("a string"));
    std::fs::write(made_up.path().join("vocab.txt"), vocab).expect("a temporary file");
    let tokenizer = match std::env::var_os("BITFIT_BENCH_MODEL") {
        Some(folder) => load(Path::new(&folder)),
        None => load(made_up.path()),
    };
    let rows = rows(&mut random);
    let build = || Dataset::build(&rows, Labels::None, &tokenizer, &|_| ()).expect("good rows").0;
    let dataset = build();

    let mut group = c.benchmark_group("data");
    group.throughput(Throughput::Elements(dataset.tokens() as u64));
    group.sample_size(20);
    group.bench_function("tokenize (tokens)", |b| b.iter(&build));
    let limits = BatchLimits { sequences: 32, tokens: None };
    let sampler =
        Sampler::new(dataset.lengths(), limits, Order::Shuffled { seed: 1 }).expect("rows");
    group.bench_function("pack an epoch (tokens)", |b| {
        b.iter_batched(
            || sampler.epoch(0),
            |epoch| epoch.iter().for_each(|rows| drop(black_box(dataset.batch(rows)))),
            BatchSize::SmallInput,
        )
    });
    group.finish();

    let mut group = c.benchmark_group("sampler");
    let large = Sampler::new(vec![30; 400_000], limits, Order::Shuffled { seed: 1 }).expect("rows");
    group.sample_size(10);
    group.throughput(Throughput::Elements(3 * 400_000));
    group.bench_function("largest batch of three epochs of 400,000 rows", |b| {
        b.iter(|| large.largest(RunLength::Epochs(3), 1))
    });
    group.finish();
}

criterion_group!(benches, data);
criterion_main!(benches);
