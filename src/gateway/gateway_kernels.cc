// REST: /api/kernels, /api/kernelspecs, /kernelspecs, /api/status, /api/me.
#include <fmt/core.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <utility>

#include "gateway/gateway.h"
#include "gateway/json_body.h"
#include "jupyter/json_text.h"
#include "jupyter/message_factory.h"
#include "jupyter/rest_models.h"

namespace nbos::gateway {
namespace {

std::string_view content_type(std::string_view file) {
    const auto ends = [&](std::string_view suffix) { return file.ends_with(suffix); };
    return ends(".svg")   ? "image/svg+xml"
           : ends(".png") ? "image/png"
           : ends(".css") ? "text/css"
           : ends(".js")  ? "application/javascript"
                          : "application/octet-stream";
}

// The folder of a notebook's path: where its kernel starts.
std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

constexpr std::uint32_t kSilenceGraceMax = 86'400;

std::optional<std::uint32_t> whole_number(std::string_view text, std::uint32_t max) {
    std::uint32_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
    return whole && value <= max ? std::optional(value) : std::nullopt;
}

// What execve would refuse, long after the kernel was promised.
Status check_environment(const std::map<std::string, std::string>& env) {
    for (const auto& [name, value] : env) {
        const bool named = !name.empty() && name.find('=') == std::string::npos &&
                           name.find('\0') == std::string::npos;
        if (!named) {
            return Error{
                Errc::kInvalid, Certainty::kDidNotHappen,
                "env has the name '" + name.substr(0, 100) +
                    "', which no variable can have: it must not be empty nor hold = or NUL"};
        }
        if (value.find('\0') != std::string::npos) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "the value of " + name.substr(0, 100) + " in env holds a NUL"};
        }
    }
    return ok();
}

}  // namespace

std::string Gateway::kernel_json(const Kernel& kernel) const {
    return jupyter::to_json(jupyter::KernelModel{.id = kernel.id.value.str(),
                                                 .name = kernel.spec,
                                                 .last_activity = kernel.channels.last_activity(),
                                                 .execution_state = kernel.execution_state(),
                                                 .connections = kernel.channels.connections(),
                                                 .reason = kernel.reason()});
}

Kernel* Gateway::kernel_or_answer(const Call& call, const std::string& text, bool parked_too) {
    const auto id = Uuid::parse(text);
    auto* kernel = !id          ? nullptr
                   : parked_too ? kernels_.find(KernelId{*id})
                                : kernels_.find_open(KernelId{*id});
    if (kernel == nullptr) {
        // An early 404 makes a front server forget the kernel for good.
        if (id && !caught_up()) {
            refuse(call, 503, why_not_caught_up());
        } else {
            refuse(call, 404, "no kernel has the id " + text.substr(0, 100));
        }
    }
    return kernel;
}

void Gateway::route_kernels(Call call) {
    const auto& path = call.target.path;
    if (path.size() > 2) {
        if (auto* kernel = kernel_or_answer(call, path[2])) {
            route_kernel(std::move(call), *kernel);
        }
    } else if (call.is("POST")) {
        create_kernel(call);
    } else if (!call.is("GET")) {
        refuse(call, 405, "use GET or POST here");
    } else if (!caught_up()) {
        refuse(call, 503, why_not_caught_up());
    } else {
        std::string list = "[";
        for (const auto& [id, kernel] : kernels_.all()) {
            if (!kernel->parked) {
                list += (list.size() > 1 ? ", " : "") + kernel_json(*kernel);
            }
        }
        answer(call, 200, list + "]");
    }
}

void Gateway::route_kernel(Call call, Kernel& kernel) {
    const auto& path = call.target.path;
    const auto id = kernel.id;
    const std::string action = path.size() == 4 ? path[3] : "";
    if (path.size() == 3 && call.is("GET")) {
        answer(call, 200, kernel_json(kernel));
    } else if (path.size() == 3 && call.is("DELETE")) {
        // A front server that is stopped does this: whoever opens the notebook again gets it back.
        kernels_.park(id, sessions_.path_of(id), [this, call](const Status& status) {
            status ? answer(call, 204, "") : refuse(call, status.error());
        });
    } else if (action == "interrupt" && call.is("POST")) {
        kernels_.interrupt(id, [this, id, call = std::move(call)](const Status& status) {
            status ? answer(call, 204, "") : refuse(call, id, status.error());
        });
    } else if (action == "restart" && call.is("POST")) {
        kernels_.restart(id, [this, id, call = std::move(call)](const Status& status) {
            const auto* restarted = kernels_.find(id);
            if (status && restarted != nullptr) {
                answer(call, 200, kernel_json(*restarted));
            } else {
                refuse(call, id,
                       status
                           ? Error{Errc::kNotFound, Certainty::kUnknown, "the kernel was deleted"}
                           : status.error());
            }
        });
    } else if (action == "channels") {
        refuse(call, 400, "this address takes WebSockets only");
    } else {
        refuse(call, path.size() == 3 ? 405 : 404, "a kernel has no such action");
    }
}

// At once, with state "starting": what is slow (an interpreter, later a GPU) is waited for by
// cells.
void Gateway::create_kernel(const Call& call) {
    const auto body = parse_body(call.request.body);
    if (!body) {
        refuse(call, 400, body.error().what);
        return;
    }
    for (const auto* field : {"name", "kernel_id", "path"}) {
        const auto* value = body->if_contains(field);
        if (value != nullptr && !value->is_string() && !value->is_null()) {
            refuse(call, 400, std::string(field) + " must be a string");
            return;
        }
    }
    const auto env = string_map(*body, "env");
    if (!env) {
        refuse(call, 400, "env must be an object whose values are strings");
        return;
    }
    start_kernel(text_field(*body, "name"), text_field(*body, "kernel_id"),
                 text_field(*body, "path"), *env, [this, call](const Result<Kernel*>& created) {
                     created ? send_created(call, **created) : refuse(call, created.error());
                 });
}

void Gateway::send_created(const Call& call, const Kernel& kernel) {
    jupyter::HttpResponse response;
    response.status = 201;
    response.body = kernel_json(kernel);
    response.headers.emplace_back("Location",
                                  call.target.prefix + "/api/kernels/" + kernel.id.value.str());
    if (!config_.allow_origin.empty()) {
        response.headers.emplace_back("Access-Control-Allow-Origin", config_.allow_origin);
    }
    call.respond(std::move(response));
}

void Gateway::start_kernel(const std::string& spec, const std::string& kernel_id,
                           const std::string& path, std::map<std::string, std::string> env,
                           KernelService::Created done) {
    auto request = kernel_request(spec, kernel_id, path, std::move(env));
    if (!request) {
        done(std::move(request).error());
    } else {
        kernels_.create(*request, std::move(done));
    }
}

Result<KernelRequest> Gateway::kernel_request(const std::string& spec, const std::string& kernel_id,
                                              const std::string& path,
                                              std::map<std::string, std::string> env) const {
    KernelRequest request;
    request.spec = spec;
    if (auto good = check_environment(env); !good) {
        return good.error();
    }
    // Clients of a gateway can only name an id through the environment.
    const auto wanted = kernel_id.empty() ? env["KERNEL_ID"] : kernel_id;
    env.erase("KERNEL_ID");
    if (!wanted.empty()) {
        const auto id = Uuid::parse(wanted);
        if (!id) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "the kernel id '" + wanted.substr(0, 100) + "' is not a UUID"};
        }
        request.id = KernelId{*id};
        if (cluster::is_system_group(*request.id)) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "the kernel id " + wanted + " is the cluster's own; choose another id"};
        }
    }
    if (const auto count = env["KERNEL_REPLICAS"]; !count.empty()) {
        if (count != "1" && count != "3" && count != "5") {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "KERNEL_REPLICAS must be 1, 3 or 5, not '" + count.substr(0, 20) + "'"};
        }
        request.replicas = static_cast<std::uint32_t>(count[0] - '0');
    }
    env.erase("KERNEL_REPLICAS");
    if (const auto grace = env["KERNEL_SILENCE_GRACE"]; !grace.empty()) {
        const auto seconds = whole_number(grace, kSilenceGraceMax);
        if (!seconds || *seconds == 0) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         fmt::format("KERNEL_SILENCE_GRACE must be whole seconds from 1 to {}, "
                                     "not '{}'",
                                     kSilenceGraceMax, grace.substr(0, 20))};
        }
        request.silence_grace_s = *seconds;
    }
    env.erase("KERNEL_SILENCE_GRACE");
    const auto folder = env["KERNEL_WORKING_DIR"];
    request.cwd = ports_.workspace.resolve(folder.empty() ? folder_of(path) : folder);
    request.username = env["KERNEL_USERNAME"].empty() ? "nbos" : env["KERNEL_USERNAME"];
    std::erase_if(env, [](const auto& entry) { return entry.second.empty(); });
    request.env = std::move(env);
    return request;
}

void Gateway::route_kernelspecs(Call call) {
    const auto& path = call.target.path;
    if (!call.is("GET")) {
        refuse(call, 405, "use GET here");
        return;
    }
    if (path.size() == 3) {
        const auto* spec = specs_.find(path[2]);
        spec == nullptr ? refuse(call, 404,
                                 "no kernelspec is named " + path[2].substr(0, 100) +
                                     "; known: " + specs_.names())
                        : answer(call, 200, jupyter::to_json(*spec, call.target.prefix));
        return;
    }
    std::string list;
    for (const auto& [name, spec] : specs_.all()) {
        list += (list.empty() ? "" : ", ") + jupyter::json_quoted(name) + ": " +
                jupyter::to_json(spec, call.target.prefix);
    }
    answer(call, 200,
           "{\"default\": " + jupyter::json_quoted(specs_.default_name()) + ", \"kernelspecs\": {" +
               list + "}}");
}

void Gateway::send_resource(const Call& call) {
    const auto* spec = specs_.find(call.target.path[1]);
    const auto file = call.target.rest(2);
    const auto found =
        spec == nullptr ? decltype(spec->resources.begin()){} : spec->resources.find(file);
    if (spec == nullptr || found == spec->resources.end()) {
        refuse(call, 404, "this kernelspec has no file " + file.substr(0, 100));
        return;
    }
    jupyter::HttpResponse response;
    response.content_type = content_type(file);
    response.body = found->second;
    call.respond(std::move(response));
}

void Gateway::send_status(const Call& call) {
    std::size_t connections = 0;
    auto activity = started_wall_;
    std::size_t open = 0;
    for (const auto& [id, kernel] : kernels_.all()) {
        open += kernel->parked ? 0 : 1;
        connections += kernel->channels.connections();
        activity = std::max(activity, kernel->channels.last_activity());
    }
    answer(call, 200,
           fmt::format(R"({{"started": "{}", "last_activity": "{}", "kernels": {}, )"
                       R"("connections": {}}})",
                       jupyter::iso_time(started_wall_), jupyter::iso_time(activity), open,
                       connections));
}

void Gateway::send_me(const Call& call) {
    answer(call, 200,
           R"({"identity": {"username": "nbos", "name": "NotebookOS user", )"
           R"("display_name": "NotebookOS user", "initials": "NB", "avatar_url": null, )"
           R"("color": null}, "permissions": {}})");
}

}  // namespace nbos::gateway
