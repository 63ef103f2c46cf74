#include "tests/sim/schedule/cost_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace storyfarm::schedule {
namespace {

// Pixels.
constexpr double kWidth = 330;
constexpr double kHeight = 220;
constexpr double kLeft = 60;
constexpr double kTop = 40;
constexpr double kGap = 150;
// Distinct also to most who see few colours, and in grey.
constexpr std::array<const char*, 6> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000"};

std::string Short(double number) {
  if (number >= 1e6) return absl::StrFormat("%gM", number / 1e6);
  return number >= 1e3 ? absl::StrFormat("%gk", number / 1e3) : absl::StrFormat("%g", number);
}

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

std::string Line(double x1, double y1, double x2, double y2, const char* colour) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2,
                         colour);
}

using Curves = std::map<uint32_t, std::map<uint32_t, double>>;  // curve -> x -> microseconds

// One diagram whose plot begins at `left`.
std::string Diagram(double left, const Curves& curves, double most, const std::string& x_title,
                    const std::string& curve_title) {
  const auto& some = curves.begin()->second;
  const double low = std::log10(some.begin()->first);
  const double high = std::max(std::log10(some.rbegin()->first), low + 0.1);
  const auto x_of = [&](double x) { return left + (std::log10(x) - low) / (high - low) * kWidth; };
  const auto y_of = [&](double y) { return kTop + kHeight - y / most * kHeight; };
  std::string svg;
  for (int tick = 0; tick <= 5; ++tick) {
    const double value = most * tick / 5;
    svg += Line(left, y_of(value), left + kWidth, y_of(value), tick == 0 ? "#444" : "#ddd");
    svg += Text(left - 6, y_of(value) + 4, "end", Short(value));
  }
  for (const auto& [x, cost] : some) {
    svg += Line(x_of(x), kTop + kHeight, x_of(x), kTop + kHeight + 4, "#444");
    svg += Text(x_of(x), kTop + kHeight + 18, "middle", Short(x));
  }
  svg += Text(left + kWidth / 2, kTop + kHeight + 38, "middle", x_title);
  svg += Text(left + kWidth + 10, kTop, "start", curve_title);
  size_t number = 0;
  for (const auto& [curve, points] : curves) {
    const char* colour = kColours[number % kColours.size()];
    std::string path;
    for (const auto& [x, cost] : points) {
      absl::StrAppendFormat(&path, "%s%.1f,%.1f", path.empty() ? "" : " ", x_of(x), y_of(cost));
      absl::StrAppendFormat(&svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x_of(x), y_of(cost),
                            colour);
    }
    absl::StrAppendFormat(&svg, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path,
                          colour);
    const double y = kTop + 20 + 18 * static_cast<double>(number++);
    absl::StrAppendFormat(&svg, "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"3\" fill=\"%s\"/>\n",
                          left + kWidth + 10, y - 5, colour);
    svg += Text(left + kWidth + 28, y, "start", Short(curve));
  }
  return svg;
}

}  // namespace

std::string DrawCosts(const std::vector<Cost>& costs) {
  Curves against_nodes;
  Curves against_frames;
  double most = 5;
  for (const Cost& cost : costs) {
    against_nodes[cost.frames][cost.nodes] = cost.microseconds;
    against_frames[cost.nodes][cost.frames] = cost.microseconds;
    most = std::max(most, std::ceil(cost.microseconds / 5) * 5);
  }
  const double width = kLeft + 2 * kWidth + 2 * kGap;
  const double height = kTop + kHeight + 60;
  return absl::StrCat(
      absl::StrFormat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                      "viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n",
                      width, height, width, height),
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      Text(kLeft - 40, kTop - 20, "start", "microseconds of one core for one decision"),
      Diagram(kLeft, against_nodes, most, "nodes", "pending frames"),
      Diagram(kLeft + kWidth + kGap, against_frames, most, "pending frames", "nodes"), "</svg>\n");
}

}  // namespace storyfarm::schedule
