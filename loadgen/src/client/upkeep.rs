//! upkeep is what is done to connections while they live: they move to other sockets, and take new
//! keys. Each has its turn once in a period, spread evenly over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiclane::{Conn, Lane};

use super::Client;
use super::seats::SeatState;
use crate::config::KeyUpdates;
use crate::local::LocalAddresses;

/// Which of one worker's connections has its turn when.
#[derive(Clone, Debug)]
pub(super) struct Rota {
    period: Duration,
    /// When the first period began; `None`: not yet.
    start: Option<Instant>,
    /// How many turns are over.
    turns: u64,
    seats: u64,
    /// This worker and all of them: connections are spread over all workers' together.
    worker: u64,
    workers: u64,
    /// Connections of all workers.
    connections: u64,
}

impl Rota {
    /// The turns of the `seats` of `worker`.
    pub(super) fn new(
        period: Duration,
        seats: usize,
        connections: usize,
        worker: usize,
        workers: usize,
    ) -> Self {
        let [seats, connections, worker, workers] =
            [seats, connections, worker, workers].map(|number| number as u64);
        Self { period, start: None, turns: 0, seats, worker, workers, connections }
    }

    /// The first period begins at `at`.
    pub(super) fn begin(&mut self, at: Instant) {
        self.start = Some(at);
    }

    /// When the next turn is.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (round, seat) = (self.turns / self.seats.max(1), self.turns % self.seats.max(1));
        // The last of all has its turn at the end of the period.
        let place = (seat * self.workers + self.worker + 1) as f64 / self.connections as f64;
        let periods = Duration::try_from_secs_f64(round as f64 * self.period.as_secs_f64()).ok()?;
        self.start?.checked_add(periods)?.checked_add(self.period.mul_f64(place))
    }

    /// The seat whose turn it is.
    fn take(&mut self, now: Instant) -> Option<usize> {
        self.next_at().filter(|at| *at <= now)?;
        let seat = self.turns % self.seats.max(1);
        self.turns += 1;
        usize::try_from(seat).ok()
    }
}

impl Client {
    /// Does what is due to open connections.
    pub(super) fn keep_up(&mut self, lane: &mut Lane<'_>, now: Instant) {
        if !self.phase.offers_load() {
            return;
        }
        for _ in 0..UPKEEPS_PER_TURN {
            let Some(seat) = self.migrations.as_mut().and_then(|rota| rota.take(now)) else {
                break;
            };
            self.migrate(lane, seat);
        }
        for _ in 0..UPKEEPS_PER_TURN {
            let Some(seat) = self.key_updates.as_mut().and_then(|rota| rota.take(now)) else {
                break;
            };
            if let SeatState::Open(id) = self.seats.seat_mut(seat).state
                && let Some(mut conn) = lane.conn(id)
            {
                self.update_keys(&mut conn);
            }
        }
    }

    /// Takes new keys after so many requests, if that is asked for: `carried` were started.
    pub(super) fn update_keys_after(&mut self, conn: &mut Conn<'_>, carried: u64) {
        if let Some(KeyUpdates::Requests(requests)) = self.job.config.key_updates
            && carried.is_multiple_of(requests.get())
        {
            self.update_keys(conn);
        }
    }

    fn update_keys(&mut self, conn: &mut Conn<'_>) {
        self.tally.upkeep.key_updates += u64::from(conn.update_keys());
    }

    /// Where the connection of `seat` comes from, the first time.
    pub(super) fn local(&self, seat: usize) -> Option<SocketAddr> {
        let number = seat * self.job.workers + self.worker;
        local(self.job.config.locals.as_ref()?, number as u64)
    }

    fn migrate(&mut self, lane: &mut Lane<'_>, seat: usize) {
        let SeatState::Open(id) = self.seats.seat_mut(seat).state else { return };
        let number = seat * self.job.workers + self.worker;
        let moves = &mut self.seats.seat_mut(seat).moves;
        *moves += 1;
        let number = (number as u64).wrapping_add(*moves);
        let local = self.job.config.locals.as_ref().and_then(|locals| local(locals, number));
        match lane.migrate(id, local) {
            Ok(has_moved) => self.tally.upkeep.migrations += u64::from(has_moved),
            Err(error) => {
                let example = || Some(error.to_string());
                self.tally.upkeep.errors.note("migration_failed", 1, example);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        if !self.phase.offers_load() {
            return None;
        }
        let rotas = [&self.migrations, &self.key_updates].into_iter().flatten();
        rotas.filter_map(Rota::next_at).min()
    }
}

fn local(locals: &LocalAddresses, number: u64) -> Option<SocketAddr> {
    Some(SocketAddr::new(locals.nth(number), 0))
}

/// Connections that have their turn in one turn of the worker: each may open a socket.
const UPKEEPS_PER_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_one_turn_in_a_period_at_equal_distances() {
        let start = quiclane::clock::now();
        let period = Duration::from_secs(10);
        let mut turns = Vec::new();
        // Five connections of two workers.
        for (worker, seats) in [(0, 3), (1, 2)] {
            let mut rota = Rota::new(period, seats, 5, worker, 2);
            assert_eq!(rota.take(start + 9 * period), None, "not begun");
            rota.begin(start);
            assert_eq!(rota.take(start), None);
            let end = start + 2 * period;
            while let Some(at) = rota.next_at().filter(|at| *at <= end) {
                turns.push(((at - start).as_millis(), worker, rota.take(at).unwrap()));
            }
        }
        turns.sort_unstable();
        let times: Vec<u128> = turns.iter().map(|(at, ..)| *at).collect();
        assert_eq!(times, (1..=10).map(|turn| turn * 2_000).collect::<Vec<u128>>());
        let who = |(_, worker, seat): &(u128, usize, usize)| (*worker, *seat);
        let round: Vec<(usize, usize)> = turns[..5].iter().map(who).collect();
        assert_eq!(round, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]);
        assert_eq!(round, turns[5..].iter().map(who).collect::<Vec<_>>());
    }
}
