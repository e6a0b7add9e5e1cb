//! What a setter of a configuration refuses.

use core::time::Duration;

/// A value that a configuration cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A queue that could never hold a packet.
    #[error("{name} is {value}, and at least {min} is needed")]
    TooSmall {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: usize,
        /// The smallest value.
        min: usize,
    },
    /// A part that exceeds the whole.
    #[error("{name} is {value}, and the queue holds at most {max}")]
    TooLarge {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: usize,
        /// The largest value.
        max: usize,
    },
    /// A number above its bound.
    #[error("{name} is {value}, and at most {max} is allowed")]
    TooMany {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: usize,
        /// The largest value.
        max: usize,
    },
    /// A timeout in which nothing could happen.
    #[error("{name} is zero, and nothing can happen in no time")]
    NoTime {
        /// The setting.
        name: &'static str,
    },
    /// A range of pauses that ends before it begins.
    #[error("the first pause ({min:?}) is longer than the longest ({max:?})")]
    PausesReversed {
        /// The bound of the first pause.
        min: Duration,
        /// The bound of any pause.
        max: Duration,
    },
}

/// Checks the capacity of a queue.
pub(crate) fn at_least(name: &'static str, value: usize, min: usize) -> Result<usize, ConfigError> {
    if value < min {
        return Err(ConfigError::TooSmall { name, value, min });
    }
    Ok(value)
}

/// Checks the capacity of a part of a queue.
#[cfg(feature = "edge")]
pub(crate) fn not_above(
    name: &'static str,
    value: usize,
    max: usize,
) -> Result<usize, ConfigError> {
    if value > max {
        return Err(ConfigError::TooLarge { name, value, max });
    }
    Ok(value)
}

/// Checks a timeout.
#[cfg(any(feature = "client", feature = "edge"))]
pub(crate) fn some_time(name: &'static str, value: Duration) -> Result<Duration, ConfigError> {
    if value.is_zero() {
        return Err(ConfigError::NoTime { name });
    }
    Ok(value)
}
