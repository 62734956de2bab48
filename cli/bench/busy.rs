//! What else the machine does.

/// Cores that other programs may take before a figure is called that of a busy machine.
pub const BUSY: f64 = 0.1;

/// Processor time so far, of the whole machine and of this process with those that it has waited for.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    cores: f64,
    all: f64,
    busy: f64,
    own: f64,
}

impl Clock {
    /// Reads the clocks, where the system has them.
    pub fn now() -> Option<Clock> {
        let machine = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Clock::read(&machine, &own)
    }

    fn read(machine: &str, own: &str) -> Option<Clock> {
        const USER_TO_STEAL: usize = 8;
        const IDLE_AND_WAITING: std::ops::Range<usize> = 3..5;
        const OWN_AND_WAITED_FOR: std::ops::Range<usize> = 11..15;
        let numbers = |text: &str| -> Option<Vec<f64>> {
            text.split_whitespace().map(|word| word.parse().ok()).collect()
        };
        let spent = numbers(machine.lines().next()?.strip_prefix("cpu ")?)?;
        let spent = spent.get(..USER_TO_STEAL)?;
        let all: f64 = spent.iter().sum();
        let idle: f64 = spent[IDLE_AND_WAITING].iter().sum();
        // The name of the program may hold anything, so what follows its last parenthesis counts.
        let (_, own) = own.rsplit_once(')')?;
        let own: Vec<&str> = own.split_whitespace().collect();
        let own = numbers(&own.get(OWN_AND_WAITED_FOR)?.join(" "))?.iter().sum();
        let cores = machine.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
        Some(Clock { cores: cores as f64, all, busy: all - idle, own })
    }

    /// Returns the cores that others have had since then, in the mean.
    pub fn others_since(self, then: Clock) -> Option<f64> {
        let passed = self.all - then.all;
        let others = (self.busy - then.busy) - (self.own - then.own);
        (passed > 0.0).then(|| (others / passed * self.cores).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_of_others_are_those_that_are_neither_idle_nor_ours() {
        let machine = |user: u64, idle: u64| {
            format!(
                "cpu  {user} 10 20 {idle} 5 0 0 2 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1 2\n"
            )
        };
        let own = |user: u64, waited_for: u64| {
            format!("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 {user} 1 {waited_for} 3 20 0 1 0\n")
        };
        let then = Clock::read(&machine(100, 1000), &own(5, 40)).unwrap();
        // 200 ticks of two cores: 120 at work, of which 10 and 60 are ours.
        let now = Clock::read(&machine(220, 1080), &own(15, 100)).unwrap();
        assert_eq!(now.others_since(then), Some(0.5));
        assert_eq!(now.others_since(now), None);
        assert!(Clock::read("cpu 1 2", &own(1, 1)).is_none());
        assert!(Clock::read(&machine(1, 1), "7 (a").is_none());
    }
}
