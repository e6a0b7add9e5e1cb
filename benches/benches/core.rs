//! Every kind of work in `src/work`, timed: `cargo bench -p benches --features criterion`, with `-- decode` for one.

use std::time::Duration;

use benches::work;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn core(criterion: &mut Criterion) {
    for kind in work::kinds() {
        let mut work = kind.prepare();
        let mut group = criterion.benchmark_group(kind.name);
        group.throughput(Throughput::Elements(work.packets));
        group.bench_function(BenchmarkId::from_parameter(kind.size), |bencher| {
            bencher.iter(|| work.step());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = core
}
criterion_main!(benches);
