#include "io/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/bytes.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

using test::expect_error;

TEST(ParseJson, ReadsValues) {
  const nlohmann::json value =
      parse_json(R"({"a": [1, 2.5, "x"], "b": {"a": true}, "c": {"a": null}})", "config.json");
  EXPECT_EQ(value["a"][1], 2.5);
  EXPECT_EQ(value["b"]["a"], true);
}

TEST(ParseJson, OrderedKeepsTheOrderOfKeys) {
  EXPECT_EQ(parse_ordered_json(R"({"z":1,"a":2,"m":3})", "config.json").dump(), R"({"z":1,"a":2,"m":3})");
}

TEST(ParseJson, RefusesDuplicateKeysAtAnyDepth) {
  for (const char* text : {R"({"a":1,"a":1})", R"({"x":[{"y":{"a":1,"b":2,"a":3}}]})",
                           R"({"a":{"b":1},"a":2})", "{\"a\":1,\"\\u0061\":2}"}) {
    expect_error(ErrorKind::kCorrupt, {"config.json", "'a'", "twice"},
                 [&] { parse_json(text, "config.json"); });
    expect_error(ErrorKind::kCorrupt, {"config.json", "'a'", "twice"},
                 [&] { parse_ordered_json(text, "config.json"); });
  }
  EXPECT_NO_THROW(
      parse_json(R"([{"a":1},{"a":1},{"b":{"a":1}}])", "config.json"));  // different objects may share a key
}

TEST(ParseJson, NamesLineAndReason) {
  expect_error(ErrorKind::kCorrupt, {"config.json", "line 3"},
               [] { parse_json("{\"a\":1,\n\"b\":2,\n\"c\":}", "config.json"); });
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  const std::string_view texts[] = {"",
                                    "{",
                                    "{\"a\":NaN}",
                                    "{\"a\":Infinity}",
                                    "{} {}",
                                    "{\"a\":1,}",
                                    "{'a':1}",
                                    "{\"a\":01}",
                                    "{\"a\":1e999}",
                                    "\"\xff\"",
                                    "// c\n{}",
                                    "{\"a\":\"\xc0\xaf\"}",
                                    "{\"a\" 1}",
                                    "nul",
                                    "[1 2]",
                                    "\"\\ud800\"",
                                    std::string_view("{}\0x", 4),
                                    "\"a\nb\""};
  for (const std::string_view text : texts) {
    expect_error(ErrorKind::kCorrupt, {"config.json"}, [&] { parse_json(text, "config.json"); });
  }
}

TEST(ParseJson, RefusesDeepNesting) {
  const std::string open(1'000'000, '['), close(1'000'000, ']');
  expect_error(ErrorKind::kCorrupt, {"levels deep"}, [&] { parse_json(open + close, "config.json"); });
  EXPECT_NO_THROW(parse_json(open.substr(0, 60) + close.substr(0, 60), "config.json"));
}

TEST(ReadTextFile, GivesTheBytes) {
  const test::TempDir dir;
  const std::string text = std::string("a\r\n\0\xff", 5) + std::string(200000, 'x');
  test::write_bytes(dir / "f", text);
  EXPECT_EQ(read_text_file(dir / "f"), text);
  expect_error(ErrorKind::kNotFound, {"absent.json"}, [&] { read_text_file(dir / "absent.json"); });
  expect_error(ErrorKind::kIo, {"crumb-test"}, [&] { read_text_file(dir.path()); });
}

}  // namespace
}  // namespace crumb::io
