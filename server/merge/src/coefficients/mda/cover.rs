//! Which few clients to leave out so that no two of the others conflict: a vertex cover, by a bounded search tree.
//!
//! A client with one conflict is not worth leaving out, its neighbour is. Else the client with the most conflicts is left out, or stays
//! and all of its neighbours go (Downey, Fellows, "Parameterized Complexity"). A branch ends where disjoint groups in which everyone
//! conflicts with everyone, of which all but one must go, ask for more than may still go.

/// A set of clients.
#[derive(Clone)]
struct Set(Vec<u64>);

impl Set {
    fn none(clients: usize) -> Self {
        Self(vec![0; clients.div_ceil(64)])
    }

    fn all(clients: usize) -> Self {
        let mut set = Self::none(clients);
        for client in 0..clients {
            set.insert(client);
        }
        set
    }

    fn insert(&mut self, client: usize) {
        self.0[client / 64] |= 1 << (client % 64);
    }

    fn remove(&mut self, client: usize) {
        self.0[client / 64] &= !(1 << (client % 64));
    }

    fn first(&self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(word * 64 + usize::try_from(self.0[word].trailing_zeros()).expect("64 at most"))
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| ones(*word)).sum()
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }
}

fn ones(word: u64) -> usize {
    usize::try_from(word.count_ones()).expect("64 at most")
}

/// Who conflicts with whom.
pub(super) struct Conflicts(Vec<Set>);

impl Conflicts {
    /// Those of a symmetric relation.
    pub(super) fn of(clients: usize, conflict: impl Fn(usize, usize) -> bool) -> Self {
        let with = |i: usize| {
            let mut with = Set::none(clients);
            for j in (0..clients).filter(|&j| j != i && conflict(i, j)) {
                with.insert(j);
            }
            with
        };
        Self((0..clients).map(with).collect())
    }

    /// Whether leaving out so many is enough.
    pub(super) fn can_be_settled(&self, budget: usize) -> bool {
        self.is_enough(&Set::all(self.0.len()), budget)
    }

    /// The clients who can stay when so many go: the first such set in lexicographic order; empty where that is not enough.
    pub(super) fn first(&self, budget: usize) -> Vec<usize> {
        let mut open = Set::all(self.0.len());
        if !self.is_enough(&open, budget) {
            return Vec::new();
        }
        let (mut budget, mut stay) = (budget, Vec::new());
        while let Some(client) = open.first() {
            open.remove(client);
            let goes = open.and(&self.0[client]).count();
            let rest = open.without(&self.0[client]);
            if goes <= budget && self.is_enough(&rest, budget - goes) {
                stay.push(client);
                budget -= goes;
                open = rest;
            } else {
                budget = budget.saturating_sub(1);
            }
        }
        stay
    }

    /// Whether of these it is enough to leave out so many.
    fn is_enough(&self, open: &Set, budget: usize) -> bool {
        let (mut left, mut most) = (open.clone(), (0, 0));
        while let Some(client) = left.first() {
            left.remove(client);
            let with = self.0[client].and(open);
            let conflicts = with.count();
            if let (1, Some(neighbour)) = (conflicts, with.first()) {
                let mut rest = open.clone();
                rest.remove(neighbour);
                return budget > 0 && self.is_enough(&rest, budget - 1);
            }
            if conflicts > most.0 {
                most = (conflicts, client);
            }
        }
        let (conflicts, client) = most;
        if conflicts == 0 {
            return true;
        }
        if self.least(open) > budget {
            return false;
        }
        let mut rest = open.clone();
        rest.remove(client);
        self.is_enough(&rest, budget - 1)
            || conflicts <= budget
                && self.is_enough(&rest.without(&self.0[client]), budget - conflicts)
    }

    /// A number of clients that must go at least.
    fn least(&self, open: &Set) -> usize {
        let (mut left, mut least) = (open.clone(), 0);
        while let Some(client) = left.first() {
            left.remove(client);
            let mut group = left.and(&self.0[client]);
            while let Some(member) = group.first() {
                least += 1;
                left.remove(member);
                group = group.and(&self.0[member]);
            }
        }
        least
    }
}
