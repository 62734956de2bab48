//! Exchanges of ranks in every order; run by `.ci/sanitize loom`.

use super::*;

/// Runs every rank on a thread of loom, in all orders with so many switches at most that no wait asks for.
fn check(ranks: usize, preemptions: usize, job: fn(&Threads)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let start = |rank: Threads| loom::thread::spawn(move || job(&rank));
        let mut group = Threads::group(ranks);
        let own = group.remove(0);
        let others: Vec<_> = group.into_iter().map(start).collect();
        job(&own);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
    });
}

/// Adds up what differs from rank to rank and from one exchange to the next.
fn sum(rank: &Threads, exchange: usize) -> Result<()> {
    let of = |rank: usize| (10 * exchange + rank) as f32;
    let mut numbers = [of(rank.rank())];
    rank.all_reduce(&mut numbers)?;
    assert_eq!(numbers[0], (0..rank.ranks()).map(of).sum::<f32>());
    Ok(())
}

/// The third exchange writes where the first was read.
#[test]
fn what_is_read_is_of_the_same_exchange() {
    check(2, 3, |rank| (0..3).for_each(|exchange| sum(rank, exchange).expect("all are there")));
}

#[test]
fn three_ranks_meet() {
    check(3, 1, |rank| (0..2).for_each(|exchange| sum(rank, exchange).expect("all are there")));
}

#[test]
fn a_failure_ends_who_waits_and_who_comes() {
    check(2, 3, |rank| {
        sum(rank, 0).expect("all are there");
        if rank.rank() == 1 {
            rank.fail(&EngineError::new("disk-full", "no room"));
        }
        assert!(sum(rank, 1).is_err_and(|error| error.code == "disk-full"));
    });
}
