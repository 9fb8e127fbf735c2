#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/syntax.h"
#include "data/jinja/template.h"

namespace crumb::data::jinja {
namespace {

constexpr std::string_view kWhere = "data.jinja";
constexpr std::int64_t kMostSteps = 1'000'000;
constexpr int kDeepest = 250;  // frames of a build with sanitizers take 10 KB and more; the stack may be 8 MB
using Kind = Expression::Kind;
using Frame = std::shared_ptr<Dict>;

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  explicit Interpreter(Dict globals) {
    frames_.push_back(std::make_shared<Dict>(std::move(globals)));
    frames_.push_back(std::make_shared<Dict>());
  }

  std::string run(const Body& body) {
    execute(body);
    return std::move(out_);
  }
  int line() const { return line_; }

 private:
  /// Guards the stack: macros times nesting.
  class Depth {
   public:
    explicit Depth(int& depth) : depth_(depth) {
      if (depth_ >= kDeepest) throw TypeFault{cat("expressions and macros more than ", kDeepest, " deep")};
      ++depth_;
    }
    ~Depth() { --depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    int& depth_;
  };
  void step(int line) {
    line_ = line;
    if (++steps_ > kMostSteps)
      throw TypeFault{cat("more than ", kMostSteps, " steps; the template does not end")};
  }
  void print(std::string_view text) {
    check_length(out_.size() + text.size());
    out_ += text;
  }

  // ---- statements ----

  Flow execute(const Body& body) {
    for (const Statement& statement : body) {
      const Flow flow = execute(statement);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow execute(const Statement& s) {
    step(s.line);
    const Depth depth(depth_);
    switch (s.kind) {
      case Statement::Kind::kText:
        print(s.text);
        break;
      case Statement::Kind::kPrint: {
        const Value value = evaluate(*s.value);
        line_ = s.line;
        print(value.text());
        break;
      }
      case Statement::Kind::kIf:
        for (std::size_t i = 0; i < s.tests.size(); ++i) {
          if (s.tests[i] == nullptr || evaluate(*s.tests[i]).truth()) return execute(s.bodies[i]);
        }
        break;
      case Statement::Kind::kFor:
        loop(s);
        break;
      case Statement::Kind::kSet:
        assign(*s.target, evaluate(*s.value));
        break;
      case Statement::Kind::kSetBlock:
        assign(*s.target, captured(s));
        break;
      case Statement::Kind::kMacro:
        frames_.back()->set(s.text, macro(s));
        break;
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
      case Statement::Kind::kGeneration:
        return execute(s.bodies[0]);
    }
    return Flow::kNext;
  }

  void loop(const Statement& s) {
    std::vector<Value> items = iterate(evaluate(*s.value));
    frames_.push_back(nullptr);
    if (s.condition != nullptr) {
      std::vector<Value> kept;
      for (Value& item : items) {
        frames_.back() = std::make_shared<Dict>();
        assign(*s.target, item);
        if (evaluate(*s.condition).truth()) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    const auto count = static_cast<std::int64_t>(items.size());
    bool ended = false;
    for (std::int64_t i = 0; i < count; ++i) {
      step(s.line);
      frames_.back() = std::make_shared<Dict>();  // what an iteration sets is gone in the next one
      frames_.back()->set("loop", loop_value(items, i, count));
      assign(*s.target, items[static_cast<std::size_t>(i)]);
      const Flow flow = execute(s.bodies[0]);
      if (flow == Flow::kBreak) break;
      ended = ended || flow == Flow::kNext;
    }
    frames_.pop_back();
    if (!ended && s.bodies.size() > 1) {  // as jinja2: also where every iteration was cut short
      frames_.push_back(std::make_shared<Dict>());
      execute(s.bodies[1]);
      frames_.pop_back();
    }
  }

  static Value loop_value(const std::vector<Value>& items, std::int64_t i, std::int64_t count) {
    Dict loop;
    loop.object = true;
    loop.set("index", Value(i + 1));
    loop.set("index0", Value(i));
    loop.set("revindex", Value(count - i));
    loop.set("revindex0", Value(count - i - 1));
    loop.set("first", Value(i == 0));
    loop.set("last", Value(i + 1 == count));
    loop.set("length", Value(count));
    loop.set("depth", Value(std::int64_t{1}));
    loop.set("depth0", Value(std::int64_t{0}));
    if (i > 0) loop.set("previtem", items[static_cast<std::size_t>(i - 1)]);
    if (i + 1 < count) loop.set("nextitem", items[static_cast<std::size_t>(i + 1)]);
    loop.set("cycle", Value::function("cycle", [i](Arguments& arguments) {
               const auto all = std::exchange(arguments, {}).positional;
               if (all.empty()) throw TypeFault{"loop.cycle() without values"};
               return all[static_cast<std::size_t>(i) % all.size()];
             }));
    return Value::dict(std::move(loop));
  }

  Value captured(const Statement& s) {
    std::string outside = std::exchange(out_, {});
    frames_.push_back(std::make_shared<Dict>());
    execute(s.bodies[0]);
    frames_.pop_back();
    Value inside(std::exchange(out_, std::move(outside)));
    return s.value != nullptr ? evaluate_on(*s.value, std::move(inside)) : inside;
  }

  /// Filters on a name without text, which stands for `value`.
  Value evaluate_on(const Expression& filters, Value value) {
    piped_ = std::move(value);
    return evaluate(filters);
  }

  void assign(const Expression& target, const Value& value) {
    if (target.kind == Kind::kName) {
      frames_.back()->set(target.text, value);
      return;
    }
    if (target.kind == Kind::kAttribute) {
      const Value object = lookup(target.parts[0]->text);
      if (!object.is_dict() || !object.as_dict().object)
        throw TypeFault{cat("'", target.parts[0]->text, ".", target.text, "' is set, and '",
                            target.parts[0]->text, "' is no namespace")};
      object.as_dict().set(target.text, value);
      return;
    }
    const std::vector<Value> values = iterate(value);
    if (values.size() != target.parts.size())
      throw TypeFault{cat(values.size(), " values for ", target.parts.size(), " names")};
    for (std::size_t i = 0; i < values.size(); ++i) assign(*target.parts[i], values[i]);
  }

  Value macro(const Statement& s) {
    return Value::function(s.text, [this, &s](Arguments& arguments) -> Value {
      Frame frame = std::make_shared<Dict>();
      std::vector<Frame> inside = {frames_[0], frames_[1], frame};
      std::vector<std::pair<const Statement::Parameter*, bool>> open;
      for (const Statement::Parameter& parameter : s.parameters) {
        const bool given = !arguments.positional.empty() ||
                           std::any_of(arguments.named.begin(), arguments.named.end(),
                                       [&](const auto& a) { return a.first == parameter.name; });
        frame->set(parameter.name,
                   given ? take_argument(arguments, parameter.name) : Value::undefined(parameter.name));
        open.emplace_back(&parameter, !given && parameter.otherwise != nullptr);
      }
      no_more_arguments(arguments, cat("macro '", s.text, "'"));
      std::swap(frames_, inside);
      std::string outside = std::exchange(out_, {});
      for (const auto& [parameter, missing] : open) {
        if (missing) frame->set(parameter->name, evaluate(*parameter->otherwise));
      }
      execute(s.bodies[0]);
      std::swap(frames_, inside);
      return std::exchange(out_, std::move(outside));
    });
  }

  // ---- expressions ----

  Value lookup(const std::string& name) const {
    for (std::size_t i = frames_.size(); i-- > 0;) {
      if (frames_[i] == nullptr) continue;
      if (const Value* found = frames_[i]->find(name)) return *found;
    }
    return Value::undefined(name);
  }

  Arguments arguments_of(const Expression& e) {
    Arguments out;
    for (std::size_t i = 0; i < e.names.size(); ++i) {
      Value value = evaluate(*e.parts[i + 1]);
      if (e.names[i].empty())
        out.positional.push_back(std::move(value));
      else
        out.named.emplace_back(e.names[i], std::move(value));
    }
    return out;
  }

  Value evaluate(const Expression& e) {
    step(e.line);
    const Depth depth(depth_);
    switch (e.kind) {
      case Kind::kLiteral:
        return e.value;
      case Kind::kName:
        return e.text.empty() ? piped_ : lookup(e.text);
      case Kind::kList:
      case Kind::kTuple: {
        std::vector<Value> items;
        for (const ExpressionPtr& part : e.parts) items.push_back(evaluate(*part));
        return Value::list(std::move(items), e.kind == Kind::kTuple);
      }
      case Kind::kDict: {
        Dict out;
        for (std::size_t i = 0; i < e.parts.size(); i += 2) {
          const Value key = evaluate(*e.parts[i]);
          if (!key.is_string()) throw NotKnown{cat("a key of type ", key.type_name(), " in a dictionary")};
          out.set(key.as_string(), evaluate(*e.parts[i + 1]));
        }
        return Value::dict(std::move(out));
      }
      case Kind::kAttribute: {
        const Value object = evaluate(*e.parts[0]);
        line_ = e.line;
        return attribute_of(object, e.text);
      }
      case Kind::kSubscript: {
        const Value object = evaluate(*e.parts[0]), index = evaluate(*e.parts[1]);
        line_ = e.line;
        return item_of(object, index);
      }
      case Kind::kSlice:
        return slice(e);
      case Kind::kCall: {
        const Value callee = evaluate(*e.parts[0]);
        Arguments arguments = arguments_of(e);
        line_ = e.line;
        if (callee.is_undefined())
          throw TypeFault{cat("'", callee.undefined_name(), "' is undefined and called")};
        if (!callee.is_function()) throw TypeFault{cat("a value of type ", callee.type_name(), " is called")};
        return callee.as_function().call(arguments);
      }
      case Kind::kFilter: {
        const Value value = evaluate(*e.parts[0]);
        Arguments arguments = arguments_of(e);
        line_ = e.line;
        return apply_filter(e.text, value, arguments);
      }
      case Kind::kTest: {
        const Value value = evaluate(*e.parts[0]);
        Arguments arguments = arguments_of(e);
        line_ = e.line;
        return apply_test(e.text, value, arguments);
      }
      case Kind::kNot:
        return !evaluate(*e.parts[0]).truth();
      case Kind::kNegative:
      case Kind::kPositive: {
        const Value value = evaluate(*e.parts[0]);
        const int sign = e.kind == Kind::kNegative ? -1 : 1;
        if (value.is_float()) return sign * value.as_double();
        if (!value.is_number())
          throw TypeFault{cat("a sign in front of a value of type ", value.type_name())};
        return sign * value.as_int();
      }
      case Kind::kBinary:
        return binary(e);
      case Kind::kComparison:
        return comparison(e);
      case Kind::kConditional:
        if (evaluate(*e.parts[0]).truth()) return evaluate(*e.parts[1]);
        return e.parts[2] != nullptr ? evaluate(*e.parts[2]) : Value::undefined("the missing else");
    }
    return Value();
  }

  Value slice(const Expression& e) {
    const Value object = evaluate(*e.parts[0]);
    if (object.is_undefined()) throw TypeFault{cat("'", object.undefined_name(), "' is undefined")};
    if (!object.is_list() && !object.is_string())
      throw TypeFault{cat("a slice of a value of type ", object.type_name())};
    const std::vector<Value> items = iterate(object);
    const auto count = static_cast<std::int64_t>(items.size());
    const auto bound = [&](std::size_t part, std::int64_t otherwise) -> std::int64_t {
      if (e.parts[part] == nullptr) return otherwise;
      const Value value = evaluate(*e.parts[part]);
      if (value.is_none()) return otherwise;
      if (!value.is_int() && !value.is_bool())
        throw TypeFault{cat("a slice at a value of type ", value.type_name())};
      return value.as_int();
    };
    const std::int64_t step = bound(3, 1);
    if (step == 0) throw TypeFault{"a slice with a step of 0"};
    const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
    const auto clamped = [&](std::int64_t at) { return std::clamp(at < 0 ? at + count : at, low, high); };
    const std::int64_t begin =
        e.parts[1] != nullptr ? clamped(bound(1, step > 0 ? 0 : count - 1)) : (step > 0 ? 0 : count - 1);
    std::int64_t end = step > 0 ? count : -1;
    if (e.parts[2] != nullptr && !evaluate(*e.parts[2]).is_none()) end = clamped(bound(2, end));
    std::vector<Value> out;
    const std::int64_t stride = std::clamp<std::int64_t>(step, -(count + 1), count + 1);
    for (std::int64_t i = begin; stride > 0 ? i < end : i > end; i += stride)
      out.push_back(items[static_cast<std::size_t>(i)]);
    if (object.is_list()) return Value::list(std::move(out), object.as_list().tuple);
    std::string text;
    for (const Value& item : out) text += item.as_string();
    return text;
  }

  Value comparison(const Expression& e) {
    Value left = evaluate(*e.parts[0]);
    for (std::size_t i = 0; i < e.names.size(); ++i) {
      const Value right = evaluate(*e.parts[i + 1]);
      line_ = e.line;
      const std::string& op = e.names[i];
      const bool holds = op == "=="   ? equal(left, right)
                         : op == "!=" ? !equal(left, right)
                         : op == "<"  ? less(left, right)
                         : op == ">"  ? less(right, left)
                         : op == "<=" ? !less(right, left)
                         : op == ">=" ? !less(left, right)
                         : op == "in" ? contains(right, left)
                                      : !contains(right, left);
      if (!holds) return false;
      left = right;
    }
    return true;
  }

  Value binary(const Expression& e) {
    const std::string& op = e.text;
    Value left = evaluate(*e.parts[0]);
    if (op == "and") return left.truth() ? evaluate(*e.parts[1]) : left;
    if (op == "or") return left.truth() ? left : evaluate(*e.parts[1]);
    const Value right = evaluate(*e.parts[1]);
    line_ = e.line;
    if (op == "~") return joined(left.text(), right.text());
    for (const Value* operand : {&std::as_const(left), &right}) {
      if (operand->is_undefined())
        throw TypeFault{cat("'", operand->undefined_name(), "' is undefined and an operand of '", op, "'")};
    }
    if (op == "+" && left.is_string() && right.is_string())
      return joined(left.as_string(), right.as_string());
    if (op == "+" && left.is_list() && right.is_list() && left.type_name() == right.type_name()) {
      std::vector<Value> items = left.items();
      check_length(items.size() + right.items().size());
      items.insert(items.end(), right.items().begin(), right.items().end());
      return Value::list(std::move(items), left.as_list().tuple);
    }
    if (op == "*" && (left.is_string() != right.is_string()) && (left.is_int() || right.is_int()))
      return repeated(left.is_string() ? left : right, left.is_string() ? right : left);
    if (op == "%" && left.is_string()) throw NotKnown{"'%' on a string"};
    if (!left.is_number() || !right.is_number())
      throw TypeFault{
          cat("'", op, "' between values of type ", left.type_name(), " and ", right.type_name())};
    return arithmetic(op, left, right);
  }

  static Value joined(std::string left, const std::string& right) {
    check_length(left.size() + right.size());
    return left + right;
  }

  static Value repeated(const Value& text, const Value& count) {
    const std::string& word = text.as_string();
    std::string out;
    for (std::int64_t i = 0; i < count.as_int() && !word.empty(); ++i) {
      check_length(out.size() + word.size());
      out += word;
    }
    return out;
  }

  static Value arithmetic(const std::string& op, const Value& left, const Value& right) {
    const double x = left.as_double(), y = right.as_double();
    if ((op == "/" || op == "//" || op == "%") && y == 0) throw TypeFault{"a division by zero"};
    if (op == "/") return x / y;
    if (left.is_float() || right.is_float()) {
      if (op == "+") return x + y;
      if (op == "-") return x - y;
      if (op == "*") return x * y;
      if (op == "//") return std::floor(x / y);
      const double rest = std::fmod(x, y);
      return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    }
    const std::int64_t a = left.as_int(), b = right.as_int();
    std::int64_t out = 0;
    const bool overflow = op == "+"   ? __builtin_add_overflow(a, b, &out)
                          : op == "-" ? __builtin_sub_overflow(a, b, &out)
                          : op == "*" ? __builtin_mul_overflow(a, b, &out)
                                      : b == -1;
    if (op == "//" || op == "%") {
      if (b == -1)
        return op == "%" ? std::int64_t{0} : -std::max(a, -std::numeric_limits<std::int64_t>::max());
      const bool adjust = a % b != 0 && (a < 0) != (b < 0);
      return op == "//" ? a / b - (adjust ? 1 : 0) : a % b + (adjust ? b : 0);
    }
    if (overflow) throw TypeFault{cat("'", op, "' beyond 63 bits")};
    return out;
  }

  std::vector<Frame> frames_;  // innermost last; 0: globals, 1: the template's own names
  std::string out_;
  Value piped_;
  std::int64_t steps_ = 0;
  int line_ = 0, depth_ = 0;
};

}  // namespace

struct Template::Tree {
  std::string subject;
  Body body;
};

Template::Template(std::string_view text, std::string_view subject)
    : tree_(std::make_unique<Tree>(Tree{std::string(subject), parse(text, subject)})) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

std::string Template::render(const nlohmann::ordered_json& variables, std::int64_t now) const {
  Dict globals = global_functions(now);
  for (const auto& [name, value] : variables.items()) globals.set(name, Value::from_json(value));
  Interpreter interpreter(std::move(globals));
  const auto where = [&] { return cat(tree_->subject, ": line ", interpreter.line(), ": "); };
  try {
    return interpreter.run(tree_->body);
  } catch (const Raised& raised) {
    fail(ErrorKind::kInvalidArgument, kWhere, where(), "the template refuses: ", raised.message);
  } catch (const TypeFault& fault) {
    fail(ErrorKind::kInvalidArgument, kWhere, where(), fault.message,
         "; the template does not fit these messages");
  } catch (const NotKnown& missing) {
    fail(ErrorKind::kUnsupported, kWhere, where(), missing.what,
         " is not in the part of Jinja that crumb knows (docs/chat_templates.md); give another template with "
         "--chat-template");
  }
}

}  // namespace crumb::data::jinja
