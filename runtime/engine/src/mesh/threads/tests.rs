//! What ranks come to, in any order of threads, and that a failure reaches all of them.

use super::*;
use std::time::Duration;

/// Runs every rank on a thread; they start in an order that changes with `turn`.
fn each<T: Send>(ranks: usize, turn: usize, job: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let group = Threads::group(ranks);
    let run = |rank: &Threads| {
        std::thread::sleep(Duration::from_millis(((rank.rank() + turn) % ranks) as u64 * 2));
        job(rank)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let start = |rank| scope.spawn(move || run(rank));
        let handles: Vec<_> = group.iter().map(start).collect();
        let found = handles.into_iter().map(|handle| handle.join().expect("no panic")).collect();
        // What is shown never outgrows the room that the plan counts.
        for shown in group[0].group.shown.iter().flatten() {
            assert_eq!(shown.read().expect("no panic").capacity(), PIECE);
        }
        found
    })
}

/// Numbers whose sum depends on the order in which they are added.
fn numbers(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7 + rank * 13) % 29) as f32 * 10_f32.powi(rank as i32 * 3) + 0.1).collect()
}

fn sums(ranks: usize, count: usize) -> Vec<f32> {
    let all: Vec<Vec<f32>> = (0..ranks).map(|rank| numbers(rank, count)).collect();
    (0..count).map(|at| all.iter().fold(0.0, |sum, numbers| sum + numbers[at])).collect()
}

#[test]
fn sums_are_those_in_the_order_of_the_ranks() {
    let large = PIECE / NUMBER + 5;
    for (ranks, count) in [(2, 7), (3, 1), (3, large), (2, 0)] {
        for turn in 0..ranks {
            let found = each(ranks, turn, |rank| {
                let mut own = numbers(rank.rank(), count);
                rank.all_reduce(&mut own).expect("all are there");
                own
            });
            assert!(found.iter().all(|own| *own == sums(ranks, count)), "{ranks} ranks, {count} numbers");
        }
    }
}

#[test]
fn parts_of_sums_are_those_of_the_whole_and_gather_to_it() {
    let large = 2 * (PIECE / NUMBER) + 3;
    for (ranks, count) in [(2, 7), (3, 7), (3, 2), (2, large)] {
        let part = count.div_ceil(ranks);
        let found = each(ranks, 1, |rank| {
            let mut own = vec![1.0; part];
            rank.reduce_scatter(&numbers(rank.rank(), count), &mut own, false).expect("all are there");
            let set = own.clone();
            rank.reduce_scatter(&vec![0.5; count], &mut own, true).expect("all are there");
            let mut whole = vec![0.0_f32; count];
            rank.all_gather(bytemuck::cast_slice(&set), bytemuck::cast_slice_mut(&mut whole)).expect("there");
            (set, own, whole)
        });
        for (rank, (set, added, whole)) in found.into_iter().enumerate() {
            assert_eq!(whole, sums(ranks, count));
            // Beyond the whole there is nothing to sum.
            let share = (rank * part).min(count)..((rank + 1) * part).min(count);
            assert!(set[share.len()..].iter().chain(&added[share.len()..]).all(|rest| *rest == 0.0));
            let more = |sum: f32| (0..ranks).fold(sum, |sum, _| sum + 0.5);
            assert!(set[..share.len()].iter().zip(&added).all(|(set, added)| more(*set) == *added));
        }
    }
}

#[test]
fn a_failure_ends_all_ranks() {
    let found = each(3, 0, |rank| {
        if rank.rank() == 2 {
            rank.fail(&EngineError::new("disk-full", "no room"));
        }
        rank.all_reduce(&mut [1.0])
    });
    assert!(found.iter().all(|ended| ended.as_ref().is_err_and(|error| error.code == "disk-full")));
}
