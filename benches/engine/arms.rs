//! Arms that stand beside each other: criterion measures each, and a summary sets them in relation.
//!
//! Beside each rate the summary has the CPU time of an element, all sides of the arm together: it barely
//! moves when the machine is busy with something else, and the rate does.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

const SAMPLES: usize = 10;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(2);
/// Resamplings of the bootstrap; with ten samples more of them say nothing more.
const RESAMPLES: usize = 10_000;

/// Criterion with short times, still to be changed by the command line.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .nresamples(RESAMPLES)
        .without_plots()
        .configure_from_args()
}

/// A group of arms.
pub(crate) struct Arms<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    figures: Vec<Figure>,
}

/// What was measured of an arm, warm-up included.
#[derive(Debug)]
struct Figure {
    id: &'static str,
    elements: u64,
    wall: Duration,
    cpu: Duration,
}

impl Figure {
    /// Elements a second.
    fn rate(&self) -> f64 {
        self.elements as f64 / self.wall.as_secs_f64()
    }

    /// Nanoseconds of CPU time an element.
    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.elements as f64
    }
}

impl<'a> Arms<'a> {
    pub(crate) fn new(criterion: &'a mut Criterion, name: &str) -> Self {
        let mut group = criterion.benchmark_group(name);
        // Runs of equal length: with many calls in flight a short one is all start and end.
        group.sampling_mode(SamplingMode::Flat);
        Self { group, figures: Vec::new() }
    }

    /// Measures `run`, which does a number of iterations of `elements` each and says how long they took.
    pub(crate) fn arm(&mut self, id: &'static str, elements: u64, mut run: impl FnMut(u64) -> Duration) {
        self.group.throughput(Throughput::Elements(elements));
        let bench_id = match id.split_once('/') {
            Some((name, parameter)) => BenchmarkId::new(name, parameter),
            None => BenchmarkId::from_parameter(id),
        };
        let mut figure = Figure { id, elements: 0, wall: Duration::ZERO, cpu: Duration::ZERO };
        self.group.bench_function(bench_id, |bencher| {
            // What the arm needs is there before anything is counted.
            run(0);
            bencher.iter_custom(|iters| {
                let before = cpu();
                let took = run(iters);
                figure.cpu += cpu().saturating_sub(before);
                figure.wall += took;
                figure.elements += iters * elements;
                took
            });
        });
        // Nothing was measured of an arm that the command line does not ask for.
        if figure.elements > 0 {
            self.figures.push(figure);
        }
    }

    /// Ends the group and prints each arm, with what it is of its ceiling: `ceilings` has pairs of an arm
    /// and the arm that bounds it.
    pub(crate) fn finish(self, ceilings: &[(&str, &str)]) {
        self.group.finish();
        let figure = |id: &str| self.figures.iter().find(|figure| figure.id == id);
        for arm in &self.figures {
            let ceiling = ceilings.iter().find(|(of, _)| *of == arm.id).and_then(|(_, by)| figure(by));
            let share = ceiling.map_or_else(String::new, |by| {
                let (rate, cost) = (arm.rate() / by.rate(), by.cost() / arm.cost());
                format!("  {:5.1} % of {} ({:.1} % by CPU)", rate * 100.0, by.id, cost * 100.0)
            });
            println!("{:16} {:>12.1} /s {:>12.0} ns CPU{share}", arm.id, arm.rate(), arm.cost());
        }
    }
}

/// CPU time of this process so far, to the 10 ms that Linux counts in; zero elsewhere.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may contain spaces; user and system time are the 12th and 13th after.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
