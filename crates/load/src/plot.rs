//! Owns lines over an axis as SVG: scales, ticks, a legend, marks at moments.
//! Never knows what a line means.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;
/// Colours that keep apart for most eyes, on light and dark ground.
const COLORS: [&str; 7] = ["#2f7ed8", "#d9731a", "#2a9d55", "#9256c9", "#d13f4a", "#159aa0", "#8a7a1c"];

/// A line to draw.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) title: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether the ground below it is tinted.
    pub(crate) filled: bool,
}

/// How values become places, and which are written beside the axis.
#[derive(Debug, Clone)]
pub(crate) enum Scale {
    /// From zero, evenly, with round ticks.
    Even {
        /// Behind each number.
        unit: &'static str,
    },
    /// By powers of ten.
    Tens {
        /// Behind each number.
        unit: &'static str,
    },
    /// At these places, with these words.
    Named(Vec<(f64, &'static str)>),
}

/// A scale fitted to what is drawn.
struct Axis {
    low: f64,
    high: f64,
    logs: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn of(scale: &Scale, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) =
            values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        match scale {
            Scale::Even { unit } => {
                let step = round_step(most.max(1.0));
                let count = (most / step).ceil().max(1.0);
                let tick = |nth: f64| (nth * step, format!("{}{unit}", short(nth * step)));
                let ticks = (0..=64).map(f64::from).take_while(|nth| *nth <= count).map(tick).collect();
                Self { low: 0.0, high: count * step, logs: false, ticks }
            }
            Scale::Tens { unit } => {
                let (low, high) = (least.max(0.01).log10().floor(), most.max(0.1).log10().ceil());
                let high = high.max(low + 1.0);
                let powers = (-2..=9).map(f64::from).filter(|power| (low..=high).contains(power));
                let ticks = powers.map(|power| (power, format!("{}{unit}", short(10_f64.powf(power)))));
                Self { low, high, logs: true, ticks: ticks.collect() }
            }
            Scale::Named(names) => {
                let ticks: Vec<_> = names.iter().map(|(at, name)| (*at, (*name).to_owned())).collect();
                let high = names.iter().map(|(at, _)| *at).fold(1.0, f64::max);
                Self { low: 0.0, high, logs: false, ticks }
            }
        }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.logs { value.max(0.01).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, so that four to eight of them reach `most`.
fn round_step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|times| times * power).find(|step| most / step >= 3.0).unwrap_or(power)
}

/// A number in few characters.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Draws lines; `marks` are upright lines at places of the lower axis, each with words.
pub(crate) fn plot(lines: &[Line<'_>], across: &Scale, up: &Scale, marks: &[(f64, &str)]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return "<p class=\"dim\">Nothing was counted.</p>".to_owned();
    }
    let (x_axis, y_axis) =
        (Axis::of(across, points().map(|point| point.0)), Axis::of(up, points().map(|point| point.1)));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |value: f64| LEFT + x_axis.place(value) * (right - LEFT);
    let y = |value: f64| bottom - y_axis.place(value) * (bottom - TOP);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH:.0} {HEIGHT:.0}\" role=\"img\">");
    let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a String takes everything");
    for (at, name) in &y_axis.ticks {
        let height = bottom - (at - y_axis.low) / (y_axis.high - y_axis.low) * (bottom - TOP);
        put(format_args!("<path class=\"grid\" d=\"M{LEFT} {height:.1}H{right}\"/>"));
        let (beside, below) = (LEFT - 6.0, height + 4.0);
        put(format_args!("<text x=\"{beside}\" y=\"{below:.1}\" text-anchor=\"end\">{name}</text>"));
    }
    for (at, name) in &x_axis.ticks {
        let (across, below) =
            (LEFT + (at - x_axis.low) / (x_axis.high - x_axis.low) * (right - LEFT), HEIGHT - 10.0);
        put(format_args!("<path class=\"grid\" d=\"M{across:.1} {TOP}V{bottom}\"/>"));
        put(format_args!("<text x=\"{across:.1}\" y=\"{below}\" text-anchor=\"middle\">{name}</text>"));
    }
    // One below the other, so that words of marks that lie close can be read.
    for ((at, words), row) in marks.iter().zip([0.0, 1.0, 2.0, 3.0].into_iter().cycle()) {
        let across = x(*at);
        put(format_args!(
            "<path class=\"mark\" d=\"M{across:.1} {TOP}V{bottom}\"><title>{words}</title></path>"
        ));
        let (beside, below) = (across + 3.0, TOP + 10.0 + 13.0 * row);
        put(format_args!("<text class=\"mark\" x=\"{beside:.1}\" y=\"{below}\">{words}</text>"));
    }
    let mut legend = LEFT;
    for (nth, line) in lines.iter().enumerate() {
        let color = COLORS[nth % COLORS.len()];
        let places: Vec<_> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        if let (true, Some((first, _)), Some((last, _))) =
            (line.filled, line.points.first(), line.points.last())
        {
            put(format_args!(
                "<polygon points=\"{:.1},{bottom} {} {:.1},{bottom}\" fill=\"{color}\" opacity=\".15\"/>",
                x(*first),
                places.join(" "),
                x(*last)
            ));
        }
        put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
            places.join(" ")
        ));
        let (square, words) = (TOP - 24.0, legend + 15.0);
        put(format_args!(
            "<rect x=\"{legend:.0}\" y=\"{square}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{color}\"/>"
        ));
        put(format_args!("<text x=\"{words:.0}\" y=\"{}\">{}</text>", TOP - 15.0, line.title));
        let letters = u32::try_from(line.title.len()).unwrap_or(20);
        legend += 28.0 + 6.4 * f64::from(letters);
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (most, step) in [(1.0, 0.2), (7.0, 2.0), (10_000.0, 2_000.0), (43_123.0, 10_000.0)] {
            assert_eq!(round_step(most), step, "{most}");
        }
        for (value, text) in [(0.0, "0"), (0.1, "0.1"), (2_000.0, "2000"), (20_000.0, "20k"), (3e6, "3M")] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_plot_stays_within_its_frame() {
        let line = |title, points| Line { title, points, filled: true };
        let lines = [line("a", vec![(0.0, 0.0), (90.0, 10_000.0)]), line("b", vec![(5.0, 3.0)])];
        for up in [Scale::Even { unit: "" }, Scale::Tens { unit: " ms" }] {
            let svg = plot(&lines, &Scale::Even { unit: " s" }, &up, &[(30.0, "kill:chat@30s")]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(svg.matches("<polyline").count(), 2);
            let numbers = svg
                .split("points=\"")
                .skip(1)
                .flat_map(|part| part.split('"').next().unwrap_or_default().split([' ', ',']));
            for number in numbers {
                let number: f64 = number.parse().unwrap();
                assert!((0.0..=WIDTH).contains(&number), "{number}: {svg}");
            }
        }
        assert!(plot(&[], &Scale::Even { unit: "" }, &Scale::Even { unit: "" }, &[]).contains("Nothing"));
    }
}
