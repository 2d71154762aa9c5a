//! Results as people read them: a table in docs/benchmarks.md between two comments, and pictures beside it.

use std::{fs, path::PathBuf};

use plotters::prelude::*;

const WIDTH: u32 = 900;
const INK: RGBColor = RGBColor(90, 98, 110);
const OURS: RGBColor = RGBColor(38, 128, 194);
const PEERS: RGBColor = RGBColor(160, 166, 175);
const SERIES: [RGBColor; 4] = [OURS, RGBColor(222, 120, 31), RGBColor(60, 160, 90), PEERS];

/// One part's results.
pub struct Section {
    name: &'static str,
    text: String,
}

impl Section {
    pub fn new(name: &'static str) -> Self {
        Self { name, text: String::new() }
    }

    /// Adds a table or a picture.
    #[must_use]
    pub fn with(mut self, piece: impl Piece) -> Self {
        self.text.push_str(&piece.markdown());
        self.text.push('\n');
        self
    }

    /// Prints it, and puts it into the page in place of what the last run left there.
    pub fn publish(self) {
        println!("{}", self.text);
        let page = docs().join("benchmarks.md");
        let before = fs::read_to_string(&page).unwrap();
        let (begin, end) = (format!("<!-- begin {} -->\n", self.name), format!("<!-- end {} -->", self.name));
        let head = before.find(&begin).unwrap_or_else(|| panic!("{}: no {begin}", page.display())) + begin.len();
        let tail = before.find(&end).unwrap_or_else(|| panic!("{}: no {end}", page.display()));
        let when = jiff::Zoned::now().strftime("%Y-%m-%d");
        let text = format!("{}\n{}Measured on {when}: {}.\n{}", &before[..head], self.text, machine(), &before[tail..]);
        fs::write(&page, text).unwrap();
    }
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores ({model}), PostgreSQL {}, all on one machine", pgstream_testkit::target_major())
}

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
}

/// Something that a page can show.
pub trait Piece {
    fn markdown(&self) -> String;
}

impl Piece for String {
    fn markdown(&self) -> String {
        self.clone()
    }
}

/// Rows under names.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.columns.len());
        println!("  {}", row.join("  "));
        self.rows.push(row);
    }
}

impl Piece for Table {
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let names: Vec<String> = self.columns.iter().map(|&name| name.to_owned()).collect();
        let rule = format!("|{}\n", "---|".repeat(names.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}{rows}", line(&names))
    }
}

/// One bar for each name, with a line at 1: longer is better.
pub struct Bars {
    title: &'static str,
    file: &'static str,
    bars: Vec<(String, f64)>,
}

impl Bars {
    pub fn new(title: &'static str, file: &'static str) -> Self {
        Self { title, file, bars: Vec::new() }
    }

    pub fn push(&mut self, name: &str, length: f64) {
        self.bars.push((name.to_owned(), length));
    }

    fn draw(&self, path: &PathBuf) {
        const ROW: i32 = 34;
        const LEFT: i32 = 330;
        let height = u32::try_from(self.bars.len()).unwrap() * 34 + 60;
        let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
        let longest = self.bars.iter().map(|(_, length)| *length).fold(1.0, f64::max);
        let unit = f64::from(WIDTH - 80 - u32::try_from(LEFT).unwrap()) / longest;
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let at = |length: f64| LEFT + (length * unit) as i32;
        let style = ("sans-serif", 15).into_font().color(&INK);
        root.draw(&Text::new(self.title, (12, 12), ("sans-serif", 17).into_font().color(&INK))).unwrap();
        for ((name, length), row) in self.bars.iter().zip(0..) {
            let top = 48 + row * ROW;
            root.draw(&Text::new(name.clone(), (12, top + 4), style.clone())).unwrap();
            let color = if *length >= 1.0 { OURS } else { PEERS };
            root.draw(&Rectangle::new([(LEFT, top), (at(*length), top + 22)], color.filled())).unwrap();
            root.draw(&Text::new(format!("{length:.2}"), (at(*length) + 6, top + 4), style.clone())).unwrap();
        }
        let bottom = 48 + ROW * i32::try_from(self.bars.len()).unwrap();
        root.draw(&PathElement::new(vec![(at(1.0), 42), (at(1.0), bottom)], INK)).unwrap();
        root.present().unwrap();
    }
}

impl Piece for Bars {
    fn markdown(&self) -> String {
        picture(self.title, self.file, |path| self.draw(path))
    }
}

/// How something grows: points of several series over a logarithmic axis.
pub struct Lines {
    pub title: &'static str,
    pub file: &'static str,
    pub across: &'static str,
    pub up: &'static str,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Lines {
    fn draw(&self, path: &PathBuf) {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let (left, right) =
            points().fold((f64::MAX, 0.0), |(low, high): (f64, f64), (x, _)| (low.min(*x), high.max(*x)));
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
        let root = SVGBackend::new(path, (WIDTH, 340)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, ("sans-serif", 17).into_font().color(&INK))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d((left..right).log_scale(), 0.0..top)
            .unwrap();
        let style = ("sans-serif", 14).into_font().color(&INK);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(self.across).y_desc(self.up).label_style(style.clone()).axis_desc_style(style.clone());
        mesh.axis_style(INK).light_line_style(TRANSPARENT).bold_line_style(INK.mix(0.2)).draw().unwrap();
        for ((name, points), color) in self.series.iter().zip(SERIES) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(4))
                .unwrap()
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(3)));
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).label_font(style).draw().unwrap();
        root.present().unwrap();
    }
}

impl Piece for Lines {
    fn markdown(&self) -> String {
        picture(self.title, self.file, |path| self.draw(path))
    }
}

/// A picture beside the page.
pub fn picture(title: &str, file: &str, draw: impl FnOnce(&PathBuf)) -> String {
    let directory = docs().join("benchmarks");
    fs::create_dir_all(&directory).unwrap();
    draw(&directory.join(format!("{file}.svg")));
    format!("![{title}](benchmarks/{file}.svg)\n")
}
