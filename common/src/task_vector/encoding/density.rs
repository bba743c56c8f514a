//! Which share of a tensor's values the sparse encodings keep.
//!
//! A whole number of millionths, so that it is the same on both ends and needs no rounding.

use std::fmt;

const WHOLE_PPM: u32 = 1_000_000;

/// A share of the values, above 0 and up to 1; 0.05 unless the plan says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Density {
    ppm: u32,
}

/// A number that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a density is from 0.000001 to 1")]
pub struct DensityError;

impl Density {
    /// All values.
    pub const WHOLE: Self = Self { ppm: WHOLE_PPM };

    /// A share in millionths.
    ///
    /// # Errors
    /// When it is 0 or more than all.
    pub const fn from_ppm(ppm: u32) -> Result<Self, DensityError> {
        if ppm == 0 || ppm > WHOLE_PPM {
            return Err(DensityError);
        }
        Ok(Self { ppm })
    }

    /// The nearest share of whole millionths.
    ///
    /// # Errors
    /// When it is less than a millionth, more than 1 or no number.
    pub fn from_share(share: f64) -> Result<Self, DensityError> {
        let ppm = share * f64::from(WHOLE_PPM);
        if !(1.0..=f64::from(WHOLE_PPM)).contains(&ppm) {
            return Err(DensityError);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 1 to a million"
        )]
        let ppm = ppm.round() as u32;
        Self::from_ppm(ppm)
    }

    /// In millionths.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.ppm
    }

    /// As a number.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.ppm) / f64::from(WHOLE_PPM)
    }

    /// This share of so many values, rounded up.
    pub(super) fn of(self, elements: usize) -> u64 {
        let exact = u128::from(self.ppm) * elements as u128;
        let kept = exact.div_ceil(u128::from(WHOLE_PPM));
        u64::try_from(kept).expect("it is no more than the elements")
    }
}

impl Default for Density {
    fn default() -> Self {
        Self { ppm: 50_000 }
    }
}

impl fmt::Display for Density {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.share().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_to_whole_values() {
        let five_percent = Density::default();
        assert_eq!(five_percent.to_string(), "0.05");
        for (elements, kept) in [(0, 0), (1, 1), (20, 1), (21, 2), (1000, 50)] {
            assert_eq!(five_percent.of(elements), kept);
        }
        assert_eq!(Density::WHOLE.of(usize::MAX), usize::MAX as u64);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for share in [0.0, 1e-7, -0.5, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(Density::from_share(share), Err(DensityError), "{share}");
        }
        assert_eq!(Density::from_share(1.0), Ok(Density::WHOLE));
        assert_eq!(Density::from_share(0.05), Ok(Density::default()));
        assert_eq!(Density::from_ppm(0), Err(DensityError));
        assert_eq!(Density::from_ppm(WHOLE_PPM + 1), Err(DensityError));
    }
}
