#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "cli/complaint.h"

namespace nbos::cli {
namespace {

constexpr int kUsageError = 2;

CLI::App& app_of(void* app) { return *static_cast<CLI::App*>(app); }

void wipe(int argc, char** argv, const std::vector<std::string>& secrets) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument(argv[i]);
        for (const auto& name : secrets) {
            if (argument == name && i + 1 < argc) {
                std::memset(argv[i + 1], '*', std::strlen(argv[i + 1]));
            } else if (argument.starts_with(name + "=")) {
                std::memset(argv[i] + name.size() + 1, '*', argument.size() - name.size() - 1);
            }
        }
    }
}

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
    return Command(child, shared_);
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

Command& Command::list(const std::string& names, std::vector<std::uint32_t>& value,
                       const std::string& help) {
    app_of(app_).add_option(names, value, help)->check(CLI::PositiveNumber)->capture_default_str();
    return *this;
}

Command& Command::required(const std::string& names, std::string& value, const std::string& help) {
    app_of(app_).add_option(names, value, help)->required();
    return *this;
}

Command& Command::secret(const std::string& name, std::string& value, const std::string& help) {
    shared_->secrets.push_back(name);
    app_of(app_).add_option(name, value, help);  // a default that came from elsewhere is not shown
    return *this;
}

void Command::does(Action action) {
    app_of(app_).callback(
        [action = std::move(action), shared = shared_] { shared->exit_code = action(); });
}

class CommandLine::Impl {
public:
    Impl(const std::string& name, const std::string& help) : app(help, name) {}

    CLI::App app;
    Command::Shared shared;
};

CommandLine::CommandLine(const std::string& name, const std::string& help)
    : impl_(std::make_unique<Impl>(name, help)) {
    impl_->app.require_subcommand(0, 1);
}

CommandLine::~CommandLine() = default;

Command CommandLine::root() { return Command(&impl_->app, &impl_->shared); }

int CommandLine::run(int argc, char** argv) {
    std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    complain_in_json(std::ranges::find(arguments, "--json") != arguments.end());
    std::ranges::reverse(arguments);  // as CLI11 takes them
    wipe(argc, argv, impl_->shared.secrets);
    try {
        impl_->app.parse(std::move(arguments));
        if (impl_->app.get_subcommands().empty()) {
            throw CLI::CallForHelp();
        }
    } catch (const CLI::ParseError& error) {
        if (impl_->app.exit(error) == 0) {
            return 0;  // the help
        }
        complain_of_usage(error.what());
        return kUsageError;
    }
    return impl_->shared.exit_code;
}

}  // namespace nbos::cli
