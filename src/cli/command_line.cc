#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <utility>

namespace nbos::cli {
namespace {

constexpr int kUsageError = 2;

CLI::App& app_of(void* app) { return *static_cast<CLI::App*>(app); }

}  // namespace

Command Command::add(const std::string& name, const std::string& help) {
    auto* child = app_of(app_).add_subcommand(name, help);
    // A group shows its commands when none is named; an action set later replaces this.
    child->require_subcommand(0, 1);
    child->callback([child] {
        if (child->get_subcommands().empty()) {
            throw CLI::CallForHelp();
        }
    });
    return Command(child, exit_code_);
}

Command& Command::flag(const std::string& names, bool& value, const std::string& help) {
    app_of(app_).add_flag(names, value, help);
    return *this;
}

Command& Command::option(const std::string& names, std::string& value, const std::string& help) {
    app_of(app_).add_option(names, value, help)->capture_default_str();
    return *this;
}

Command& Command::option(const std::string& names, std::uint32_t& value, const std::string& help) {
    app_of(app_).add_option(names, value, help)->capture_default_str();
    return *this;
}

Command& Command::list(const std::string& names, std::vector<std::string>& value,
                       const std::string& help) {
    app_of(app_).add_option(names, value, help);
    return *this;
}

Command& Command::required(const std::string& names, std::string& value, const std::string& help) {
    app_of(app_).add_option(names, value, help)->required();
    return *this;
}

void Command::does(Action action) {
    app_of(app_).callback([action = std::move(action), code = exit_code_] { *code = action(); });
}

class CommandLine::Impl {
public:
    Impl(const std::string& name, const std::string& help) : app(help, name) {}

    CLI::App app;
    int exit_code = 0;
};

CommandLine::CommandLine(const std::string& name, const std::string& help)
    : impl_(std::make_unique<Impl>(name, help)) {
    impl_->app.require_subcommand(0, 1);
}

CommandLine::~CommandLine() = default;

Command CommandLine::root() { return Command(&impl_->app, &impl_->exit_code); }

int CommandLine::run(int argc, const char* const* argv) {
    try {
        impl_->app.parse(argc, argv);
        if (impl_->app.get_subcommands().empty()) {
            throw CLI::CallForHelp();
        }
    } catch (const CLI::ParseError& error) {
        return impl_->app.exit(error) == 0 ? 0 : kUsageError;
    }
    return impl_->exit_code;
}

}  // namespace nbos::cli
