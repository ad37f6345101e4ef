//! Whole-number geometry, the same on every machine. Never a float.

use std::ops::{Add, Neg, Sub};

use serde::{Deserialize, Serialize};

/// Parts of one pixel that positions are counted in.
pub(crate) const PX: i32 = 16;

/// Angles per full turn.
pub(crate) const TURN: i32 = 4096;

/// The value of [`sine`] that stands for 1.
pub(crate) const ONE: i32 = 1024;

/// A place or a way, in 1/16 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Vector {
    pub(crate) x: i32,
    pub(crate) y: i32,
}

impl Vector {
    pub(crate) const fn new(x: i32, y: i32) -> Self {
        Self { x, y }
    }

    /// A place given in pixels.
    pub(crate) const fn px(x: i32, y: i32) -> Self {
        Self { x: x * PX, y: y * PX }
    }

    pub(crate) fn length(self) -> i32 {
        (self.x * self.x + self.y * self.y).isqrt()
    }

    /// The same way, of this length; the zero vector stays.
    pub(crate) fn scaled_to(self, length: i32) -> Self {
        match self.length() {
            0 => self,
            now => Self { x: self.x * length / now, y: self.y * length / now },
        }
    }

    pub(crate) fn is_within(self, reach: i32, other: Self) -> bool {
        let way = self - other;
        way.x * way.x + way.y * way.y <= reach * reach
    }
}

impl Add for Vector {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { x: self.x + other.x, y: self.y + other.y }
    }
}

impl Sub for Vector {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { x: self.x - other.x, y: self.y - other.y }
    }
}

impl Neg for Vector {
    type Output = Self;

    fn neg(self) -> Self {
        Self { x: -self.x, y: -self.y }
    }
}

/// Sine in 1/1024 of an angle in 1/4096 turns, by Bhaskara's formula: at most 2/1024 off.
pub(crate) fn sine(angle: i32) -> i32 {
    let half = TURN / 2;
    let within = angle.rem_euclid(TURN);
    let bump = (within % half) * (half - within % half);
    let value =
        i64::from(ONE) * 16 * i64::from(bump) / (5 * i64::from(half) * i64::from(half) - 4 * i64::from(bump));
    let value = i32::try_from(value).expect("a sine is at most 1024");
    if within < half { value } else { -value }
}

/// The unit way of an angle, times [`ONE`].
pub(crate) fn ray(angle: i32) -> Vector {
    Vector { x: sine(angle + TURN / 4), y: sine(angle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_close_to_the_real_one_everywhere() {
        for angle in -TURN..2 * TURN {
            let real = (f64::from(angle) * std::f64::consts::TAU / f64::from(TURN)).sin() * f64::from(ONE);
            assert!(
                (f64::from(sine(angle)) - real).abs() <= 3.0,
                "angle {angle}: {} for {real}",
                sine(angle)
            );
        }
    }

    #[test]
    fn a_scaled_vector_keeps_its_way() {
        let cases = [((3, 4), 10, (6, 8)), ((0, 0), 10, (0, 0)), ((-300, 0), 5, (-5, 0))];
        for ((x, y), length, (to_x, to_y)) in cases {
            assert_eq!(Vector::new(x, y).scaled_to(length), Vector::new(to_x, to_y));
        }
    }
}
