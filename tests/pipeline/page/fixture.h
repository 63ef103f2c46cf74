// Fonts, pictures and folders for the tests of pages.
#ifndef STORYFARM_TESTS_PIPELINE_PAGE_FIXTURE_H_
#define STORYFARM_TESTS_PIPELINE_PAGE_FIXTURE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/page/page.h"
#include "pipeline/page/png.h"

namespace storyfarm::page {

inline std::vector<std::string> ShippedFonts() {
  const std::string folder = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/fonts/";
  return {folder + "ComicNeue-Regular.otf", folder + "ComicNeue-Bold.otf"};
}

inline Picture Solid(uint32_t width, uint32_t height, unsigned char red, unsigned char green, unsigned char blue) {
  Picture picture{width, height, ""};
  for (size_t i = 0; i < size_t{width} * height; ++i) {
    picture.rgb += {static_cast<char>(red), static_cast<char>(green), static_cast<char>(blue)};
  }
  return picture;
}

// A folder of its own with one red picture, and the shipped fonts.
class PageTest : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = testing::TempDir() + "storyfarm-" + info->test_suite_name() + "-" + info->name() + "-" +
              std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    auto png = EncodePng(Solid(64, 64, 200, 30, 30), {});
    ASSERT_TRUE(png.ok()) << png.status();
    red_ = folder_ + "/red.png";
    ASSERT_TRUE(env().WriteFileDurably(red_, *png).ok());
    auto fonts = Fonts::Load(ShippedFonts());
    ASSERT_TRUE(fonts.ok()) << fonts.status();
    fonts_ = *std::move(fonts);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static base::Env& env() { return base::Env::Real(); }

  PagePanel Panel(uint32_t number, std::string caption = "") const {
    return {.number = number, .width = 64, .height = 64, .image_path = red_, .caption = std::move(caption)};
  }

  std::string folder_;
  std::string red_;
  std::unique_ptr<Fonts> fonts_;
};

}  // namespace storyfarm::page

#endif  // STORYFARM_TESTS_PIPELINE_PAGE_FIXTURE_H_
