//! Which of several providers is called.

use super::draws::Draws;

/// How one of several providers is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// The less loaded of two that are drawn at random: nearly as even as comparing all, at the price of
    /// two, and callers that know the same do not all run to the same one (Mitzenmacher, *The Power of Two
    /// Choices in Randomized Load Balancing*, 2001).
    #[default]
    PowerOfTwo,
    /// Any, each as likely as the others.
    Random,
    /// One after another.
    RoundRobin,
    /// The first in order: the others are there in case it fails.
    First,
}

/// Chooses one of `count` providers, which have the places 0 to `count - 1`; `None` if none is eligible.
///
/// `load` tells how much the provider at a place has to do, `None` if it is not to be chosen. It is asked
/// about as few as possible: about two with [`Selection::PowerOfTwo`], one otherwise, and all when one of
/// these is not eligible. `turn` is what [`Selection::RoundRobin`] goes by, one more with each call. Chance
/// comes from `draw` alone.
pub fn choose(
    selection: Selection,
    turn: u64,
    draw: u64,
    count: usize,
    mut load: impl FnMut(usize) -> Option<u64>,
) -> Option<usize> {
    if count <= 1 {
        return (count == 1 && load(0).is_some()).then_some(0);
    }
    match selection {
        Selection::PowerOfTwo => power_of_two(Draws::new(draw), count, load),
        Selection::Random => random(Draws::new(draw), count, load),
        Selection::RoundRobin => {
            // The remainder is less than `count`.
            let first = (turn % count as u64) as usize;
            (first..count).chain(0..first).find(|place| load(*place).is_some())
        }
        Selection::First => (0..count).find(|place| load(*place).is_some()),
    }
}

fn power_of_two(mut draws: Draws, count: usize, mut load: impl FnMut(usize) -> Option<u64>) -> Option<usize> {
    let first = draws.below(count);
    let other = draws.below(count - 1);
    let second = if other < first { other } else { other + 1 };
    if let (Some(one), Some(two)) = (load(first), load(second)) {
        return Some(if two < one { second } else { first });
    }
    let mut drawn = [None; 2];
    sample(&mut draws, count, load, &mut drawn);
    let lighter = |one: (usize, u64), two: (usize, u64)| if two.1 < one.1 { two } else { one };
    let [one, two] = drawn;
    one.map(|one| two.map_or(one, |two| lighter(one, two)).0)
}

fn random(mut draws: Draws, count: usize, mut load: impl FnMut(usize) -> Option<u64>) -> Option<usize> {
    let place = draws.below(count);
    if load(place).is_some() {
        return Some(place);
    }
    let mut drawn = [None];
    sample(&mut draws, count, load, &mut drawn);
    drawn[0].map(|(place, _)| place)
}

/// Fills `drawn` with eligible places at random and in random order, and their loads, as far as there are
/// so many (reservoir sampling: Vitter, *Random Sampling with a Reservoir*, 1985, algorithm R).
fn sample(
    draws: &mut Draws,
    count: usize,
    mut load: impl FnMut(usize) -> Option<u64>,
    drawn: &mut [Option<(usize, u64)>],
) {
    let mut eligible = 0;
    for place in 0..count {
        let Some(load) = load(place) else { continue };
        eligible += 1;
        let at = draws.below(eligible);
        // While there is room the new one takes the last seat or changes with whoever sits there.
        if let Some(seat) = drawn.get_mut(eligible - 1) {
            *seat = Some((place, load));
            drawn.swap(at, eligible - 1);
        } else if let Some(seat) = drawn.get_mut(at) {
            *seat = Some((place, load));
        }
    }
}

#[cfg(test)]
mod tests;
