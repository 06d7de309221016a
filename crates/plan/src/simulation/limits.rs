//! The two kinds of limits: so many in a second, and so many at once.

/// A bucket of tokens: a rate, and what may be used at once after a pause.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    pub(super) fn new(per_second: f64, most: f64) -> Self {
        Self { per_second, most, tokens: most, at: 0.0 }
    }

    /// Takes tokens at this time if there are enough.
    pub(super) fn take(&mut self, now: f64, tokens: f64) -> bool {
        self.tokens = (self.tokens + (now - self.at) * self.per_second).min(self.most);
        self.at = now;
        let enough = self.tokens >= tokens;
        if enough {
            self.tokens -= tokens;
        }
        enough
    }
}

/// Environments of functions, which run one invocation each.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    size: f64,
    used: f64,
}

impl Pool {
    pub(super) fn new(size: f64) -> Self {
        Self { size, used: 0.0 }
    }

    pub(super) fn take(&mut self, count: f64) -> bool {
        let enough = self.used + count <= self.size;
        if enough {
            self.used += count;
        }
        enough
    }

    pub(super) fn give_back(&mut self, count: f64) {
        self.used -= count;
    }
}
