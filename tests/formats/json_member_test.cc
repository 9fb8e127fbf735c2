#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/json_member.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

TEST(SetJsonMember, AppendsAndKeepsEveryOtherByte) {
  const std::string config =
      "{\n  \"rope_theta\": 10000.0,\n  \"eps\": 1e-05,\n\t\"a\": [1, {\"b\": \"}, \\\" {\"}],\n  \"big\": "
      "12345678901234567890123\n}\n";
  EXPECT_EQ(set_json_member(config, "new", "{\"x\": 1}"),
            "{\n  \"rope_theta\": 10000.0,\n  \"eps\": 1e-05,\n\t\"a\": [1, {\"b\": \"}, \\\" {\"}],\n  "
            "\"big\": 12345678901234567890123,\n  \"new\": {\"x\": 1}\n}\n");
}

TEST(SetJsonMember, ReplacesTheTopLevelMemberOnly) {
  EXPECT_EQ(set_json_member(R"({"a": {"q": 1}, "q" : null , "b": 2})", "q", "[3]"),
            R"({"a": {"q": 1}, "q" : [3] , "b": 2})");
  EXPECT_EQ(set_json_member(R"({"q":{"x":[1,2,"]"]}})", "q", "7"), R"({"q":7})");
  EXPECT_EQ(set_json_member(R"({"q":-1.5e3})", "q", "7"), R"({"q":7})");
  EXPECT_EQ(set_json_member(R"({"b":"q","q":"a\"b"})", "q", "7"), R"({"b":"q","q":7})");
  EXPECT_EQ(set_json_member("{\"\\u0071\": true}", "q", "7"), "{\"\\u0071\": 7}")
      << "the key as the file spells it";
}

TEST(SetJsonMember, FillsAnEmptyObject) {
  for (const char* empty : {"{}", " { } \n"}) {
    EXPECT_EQ(nlohmann::json::parse(set_json_member(empty, "q", "7")), (nlohmann::json{{"q", 7}}));
  }
}

TEST(SetJsonMember, IsIdempotent) {
  const std::string once = set_json_member("{\"a\": 1}", "q", "{\n    \"x\": 1\n  }");
  EXPECT_EQ(set_json_member(once, "q", "{\n    \"x\": 1\n  }"), once);
}

TEST(SetJsonMember, RefusesWhatIsNoObject) {
  for (const char* text : {"[1]", "1", "", "{\"a\": 1", "{\"a\": 1} x"}) {
    test::expect_error(ErrorKind::kCorrupt, {"config.json"}, [&] { set_json_member(text, "q", "7"); });
  }
}

}  // namespace
}  // namespace crumb::formats
