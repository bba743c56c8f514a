//! Every timed recipe beside a plain read of the same bytes: `cargo bench -p fedmerge-merge`.

mod in_memory;

use divan::Bencher;
use divan::counter::BytesCount;
use fedmerge_merge::Detail;
use in_memory::{Round, Type, recipes};

/// Enough to leave the caches, little enough for many samples.
const VALUES: usize = 1 << 20;

/// Numbers of clients.
const CLIENTS: [usize; 2] = [10, 50];

/// Names of the recipes that are timed.
const NAMES: [&str; 11] = [
    "mean",
    "trimmed-mean f=1",
    "trimmed-mean f=3",
    "median",
    "meamed",
    "ties 0.2",
    "dare-ties 0.2",
    "krum",
    "geometric-median",
    "bulyan",
    "nnm, trimmed-mean",
];

fn main() {
    divan::main();
}

fn bytes(clients: usize, of: Type) -> BytesCount {
    BytesCount::new((clients + 1) * VALUES * of.bytes())
}

#[divan::bench(args = CLIENTS, sample_count = 10)]
fn read_and_sum(bencher: Bencher<'_, '_>, clients: usize) {
    let round = Round::new(clients, VALUES, Type::F32);
    bencher
        .counter(bytes(clients, Type::F32))
        .bench_local(|| round.read_and_sum());
}

#[divan::bench(args = NAMES, consts = CLIENTS, sample_count = 10)]
fn f32<const N: usize>(bencher: Bencher<'_, '_>, name: &str) {
    merge(bencher, N, Type::F32, name);
}

#[divan::bench(args = NAMES, consts = CLIENTS, sample_count = 10)]
fn bf16<const N: usize>(bencher: Bencher<'_, '_>, name: &str) {
    merge(bencher, N, Type::Bf16, name);
}

#[divan::bench(args = NAMES, consts = CLIENTS, sample_count = 10)]
fn f16<const N: usize>(bencher: Bencher<'_, '_>, name: &str) {
    merge(bencher, N, Type::F16, name);
}

fn merge(bencher: Bencher<'_, '_>, clients: usize, of: Type, name: &str) {
    let mut round = Round::new(clients, VALUES, of);
    let (_, recipe) = recipes(clients)
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a timed recipe");
    bencher
        .counter(bytes(clients, of))
        .bench_local(|| round.merge(&recipe, Detail::Brief));
}
