//! What was measured over time, and what follows from it.
//!
//! ```text
//!  value │        ·  ·        slope: the line that fits the window best
//!        │     ·              reached(v): when the line between two points passed v
//!        │  ·
//!        └──────────── seconds
//! ```

use std::collections::VecDeque;

/// As many points as an hour has at one every ten seconds.
const MOST: usize = 360;

/// Seconds that points are kept.
const KEPT: f64 = 3600.0;

/// Shorter windows say more about chance than about a trend.
const SHORTEST: f64 = 1.0;

/// Points of one quantity, in order of time. Bounded.
#[derive(Debug, Clone, Default)]
pub struct Series {
    points: VecDeque<Point>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub at: f64,
    /// What was measured.
    pub value: f64,
}

/// When a growing quantity had a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reached {
    /// At this time, seconds since 1970.
    At(f64),
    /// Before this time, which is as far back as is known.
    Before(f64),
    /// Not yet.
    NotYet,
}

impl Series {
    /// Adds a measurement. One that is not later than the last is a clock that was set back: what was before it says nothing.
    pub fn push(&mut self, point: Point) {
        if !point.at.is_finite() || !point.value.is_finite() {
            return;
        }
        if self.points.back().is_some_and(|last| point.at <= last.at) {
            self.points.clear();
        }
        self.points.push_back(point);
        while self.points.len() > MOST || self.points.front().is_some_and(|first| first.at < point.at - KEPT) {
            self.points.pop_front();
        }
    }

    /// Adds a measurement of something that only grows. A smaller one is of another server: what was before it is forgotten.
    pub fn push_growing(&mut self, point: Point) {
        if self.points.back().is_some_and(|last| point.value < last.value) {
            self.points.clear();
        }
        self.push(point);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.points.clear();
    }

    /// The measurements, oldest first.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.points.iter().copied()
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// Seconds between the first and the last.
    #[must_use]
    pub fn span(&self) -> f64 {
        match (self.points.front(), self.points.back()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => 0.0,
        }
    }

    /// How much it changes in a second, by least squares over the last `window` seconds; nothing where that is too little
    /// to tell.
    #[must_use]
    pub fn slope(&self, window: f64) -> Option<f64> {
        let last = self.points.back()?;
        let within: Vec<Point> = self.points().filter(|point| point.at >= last.at - window).collect();
        let first = within.first()?;
        if within.len() < 2 || last.at - first.at < SHORTEST {
            return None;
        }
        let n = within.len() as f64;
        // Around their means: positions in WAL are beyond what squares of floating point can hold.
        let mean_at = within.iter().map(|point| point.at - first.at).sum::<f64>() / n;
        let mean_value = within.iter().map(|point| point.value - first.value).sum::<f64>() / n;
        let (mut above, mut below) = (0.0, 0.0);
        for point in &within {
            let at = point.at - first.at - mean_at;
            above += at * (point.value - first.value - mean_value);
            below += at * at;
        }
        let slope = above / below;
        slope.is_finite().then_some(slope)
    }

    /// When it had this value, taking it to have grown evenly between two measurements.
    #[must_use]
    pub fn reached(&self, value: f64) -> Option<Reached> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        if value > last.value {
            return Some(Reached::NotYet);
        }
        if value < first.value {
            return Some(Reached::Before(first.at));
        }
        // The last measurement at or below it: from there on it was passed.
        let below = self.points.iter().rposition(|point| point.value <= value)?;
        let before = self.points[below];
        let at = match self.points.get(below + 1) {
            Some(after) => before.at + (after.at - before.at) * (value - before.value) / (after.value - before.value),
            None => before.at,
        };
        Some(Reached::At(at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(points: &[(f64, f64)]) -> Series {
        let mut series = Series::default();
        for (at, value) in points {
            series.push(Point { at: *at, value: *value });
        }
        series
    }

    #[test]
    fn one_measurement_has_no_trend() {
        assert_eq!(of(&[]).slope(60.0), None);
        assert_eq!(of(&[(1.0, 5.0)]).slope(60.0), None);
        assert_eq!(of(&[(1.0, 5.0), (1.5, 9.0)]).slope(60.0), None);
    }

    #[test]
    fn only_the_window_counts() {
        let series = of(&[(0.0, 0.0), (100.0, 1000.0), (200.0, 1000.0), (300.0, 1000.0)]);
        assert_eq!(series.slope(200.0), Some(0.0));
        assert!(series.slope(300.0).unwrap() > 2.0);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let series = of(&[(100.0, 1.0), (200.0, 2.0), (150.0, 3.0)]);
        assert_eq!(series.points().collect::<Vec<_>>(), [Point { at: 150.0, value: 3.0 }]);
    }

    #[test]
    fn a_position_that_falls_is_another_server() {
        let mut series = of(&[(100.0, 10.0), (200.0, 20.0)]);
        series.push_growing(Point { at: 300.0, value: 5.0 });
        assert_eq!(series.span(), 0.0);
    }

    #[test]
    fn a_value_was_reached_between_two_measurements() {
        let series = of(&[(0.0, 100.0), (10.0, 200.0), (20.0, 200.0), (30.0, 300.0)]);
        assert_eq!(series.reached(150.0), Some(Reached::At(5.0)));
        assert_eq!(series.reached(200.0), Some(Reached::At(20.0)));
        assert_eq!(series.reached(300.0), Some(Reached::At(30.0)));
        assert_eq!(series.reached(301.0), Some(Reached::NotYet));
        assert_eq!(series.reached(99.0), Some(Reached::Before(0.0)));
        assert_eq!(of(&[]).reached(1.0), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut series = Series::default();
        for n in 0..10_000 {
            series.push(Point { at: f64::from(n), value: 1.0 });
        }
        assert_eq!(series.points().count(), MOST);
        series.push(Point { at: 1e6, value: 1.0 });
        assert_eq!(series.points().count(), 1, "what is older than an hour is gone");
    }

    proptest! {
        #[test]
        fn an_even_growth_is_found_whatever_its_size(
            start in 0.0..1e18_f64, rate in -1e9..1e9_f64, gaps in proptest::collection::vec(1.0..90.0_f64, 1..30)
        ) {
            let (mut series, mut at) = (Series::default(), 1.8e9);
            series.push(Point { at, value: start });
            for gap in &gaps {
                at += gap;
                series.push(Point { at, value: start + rate * (at - 1.8e9) });
            }
            let slope = series.slope(3600.0).unwrap();
            // As exact as the values themselves can be written.
            let error = (start.abs() + rate.abs() * 3600.0) * f64::EPSILON * 4.0 + rate.abs() * 1e-9 + 1e-6;
            prop_assert!((slope - rate).abs() <= error, "{slope} is not {rate}");
        }

        #[test]
        fn a_time_lies_between_the_measurements_around_the_value(
            steps in proptest::collection::vec((0.1..60.0_f64, 0.0..1e9_f64), 1..40), share in 0.0..1.0_f64
        ) {
            let (mut series, mut at, mut value) = (Series::default(), 0.0, 0.0);
            series.push(Point { at, value });
            for (gap, growth) in &steps {
                at += gap;
                value += growth;
                series.push(Point { at, value });
            }
            let points: Vec<Point> = series.points().collect();
            let wanted = points[0].value + share * (value - points[0].value);
            let Some(Reached::At(when)) = series.reached(wanted) else { return Err(TestCaseError::fail("not reached")) };
            for point in points {
                prop_assert!(point.value > wanted || point.at <= when + 1e-6);
                prop_assert!(point.value <= wanted || point.at >= when - 1e-6);
            }
        }
    }
}
