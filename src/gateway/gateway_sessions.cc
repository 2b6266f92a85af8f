// REST: /api/sessions.
#include <utility>

#include "gateway/gateway.h"
#include "gateway/json_body.h"
#include "jupyter/rest_models.h"

namespace nbos::gateway {
namespace {

std::string file_name(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

// {"path", "name", "type", "kernel": {"id", "name"}}, or the older form with "notebook".
struct SessionBody {
    std::string path;
    std::string name;
    std::string type;
    std::string kernel_id;
    std::string kernel_name;
};

Status good_types(const boost::json::object& body) {
    for (const auto* part : {"notebook", "kernel"}) {
        const auto* field = body.if_contains(part);
        if (field == nullptr || field->is_null()) {
            continue;
        }
        if (!field->is_object()) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "\"" + std::string(part) + "\" must be an object"};
        }
        if (auto good = texts_or_null(field->get_object(), {"path", "name", "id"}); !good) {
            return good;
        }
    }
    return texts_or_null(body, {"path", "name", "type"});
}

Result<SessionBody> session_body(const std::string& text) {
    const auto parsed = parse_body(text);
    if (!parsed) {
        return parsed.error();
    }
    const auto& body = *parsed;
    if (auto good = good_types(body); !good) {
        return std::move(good).error();
    }
    SessionBody out{.path = text_field(body, "path"),
                    .name = text_field(body, "name"),
                    .type = text_field(body, "type"),
                    .kernel_id = {},
                    .kernel_name = {}};
    if (const auto* notebook = object_field(body, "notebook")) {
        out.path = out.path.empty() ? text_field(*notebook, "path") : out.path;
        out.name = out.name.empty() ? text_field(*notebook, "name") : out.name;
        out.type = out.type.empty() ? "notebook" : out.type;
    }
    if (const auto* kernel = object_field(body, "kernel")) {
        out.kernel_id = text_field(*kernel, "id");
        out.kernel_name = text_field(*kernel, "name");
    }
    return out;
}

}  // namespace

std::string Gateway::session_json(const Session& session) const {
    const auto& all = const_cast<Gateway*>(this)->kernels_.all();  // NOLINT: a look-up only
    const auto kernel = all.find(session.kernel);
    return jupyter::to_json(
        session.model, kernel == all.end() ? std::string("null") : kernel_json(*kernel->second));
}

// A session whose kernel has ended elsewhere (culled, deleted through /api/kernels) goes with it.
std::vector<const Session*> Gateway::live_sessions() {
    std::vector<const Session*> live;
    for (const auto& [id, session] : sessions_.all()) {
        if (kernels_.find_open(session.kernel) != nullptr) {
            live.push_back(&session);
        }
    }
    return live;
}

void Gateway::route_sessions(Call call) {
    const auto& path = call.target.path;
    if (!caught_up()) {
        refuse(call, 503, why_not_caught_up());
    } else if (path.size() == 2 && call.is("GET")) {
        std::string list = "[";
        for (const auto* session : live_sessions()) {
            list += (list.size() > 1 ? ", " : "") + session_json(*session);
        }
        answer(call, 200, list + "]");
    } else if (path.size() == 2 && call.is("POST")) {
        create_session(call);
    } else if (path.size() != 3) {
        refuse(call, path.size() == 2 ? 405 : 404, "there is no such session call");
    } else if (auto* session = sessions_.find(path[2]);
               session == nullptr || kernels_.find_open(session->kernel) == nullptr) {
        const bool kernel_gone = session != nullptr;
        if (kernel_gone && caught_up()) {
            table_.write({.conditions = {}, .changes = {{session_key(path[2]), std::nullopt}}},
                         [](const Result<replica::TableOutcome>&) {});
        }
        refuse(call, kernel_gone && call.is("DELETE") ? 410 : 404,
               kernel_gone ? "the kernel of this session has ended" : "no session has this id");
    } else if (call.is("GET")) {
        answer(call, 200, session_json(*session));
    } else if (call.is("PATCH")) {
        patch_session(call, *session);
    } else if (call.is("DELETE")) {
        // A person's "shut down": not for the next who opens the path.
        kernels_.park(session->kernel, "", [this, call](const Status& status) {
            status ? answer(call, 204, "") : refuse(call, status.error());
        });
    } else {
        refuse(call, 405, "use GET, PATCH or DELETE here");
    }
}

// The one that is named, or the one that the notebook's front server left parked. All who have the
// token are one user.
Kernel* Gateway::kernel_for(const std::string& named, const std::string& spec,
                            const std::string& path) {
    if (const auto id = Uuid::parse(named)) {
        return kernels_.find(KernelId{*id});
    }
    auto* parked = named.empty() ? kernels_.find_parked(path) : nullptr;
    return parked != nullptr && (spec.empty() || spec == parked->spec) ? parked : nullptr;
}

void Gateway::create_session(const Call& call) {
    const auto body = session_body(call.request.body);
    if (!body) {
        refuse(call, 400, body.error().what);
        return;
    }
    const auto& wish = *body;
    if (wish.path.empty() || wish.type.empty()) {
        refuse(call, 400, "a session needs a path and a type");
        return;
    }
    for (const auto* known : live_sessions()) {
        if (known->model.path == wish.path) {
            answer(call, 201, session_json(*known));
            return;
        }
    }
    const Session session{.model = {.id = ports_.new_uuid().str(),
                                    .path = wish.path,
                                    .name = wish.name.empty() ? file_name(wish.path) : wish.name,
                                    .type = wish.type},
                          .kernel = {}};
    if (auto* known = kernel_for(wish.kernel_id, wish.kernel_name, wish.path)) {
        kernels_.revive(known->id, [this, call, session, id = known->id](const Status& status) {
            auto opened = session;
            opened.kernel = id;
            status ? put_session(call, opened, 201, {}) : refuse(call, status.error());
        });
    } else if (!wish.kernel_id.empty() && wish.kernel_name.empty()) {
        refuse(call, 404, "no kernel has the id " + wish.kernel_id.substr(0, 100));
    } else {
        start_kernel(wish.kernel_name, "", wish.path, {},
                     [this, call, session](const Result<Kernel*>& created) {
                         if (created) {
                             auto opened = session;
                             opened.kernel = (*created)->id;
                             put_session(call, opened, 201, {});
                         } else if (created.error().code == Errc::kNotFound) {
                             refuse(call, 501, created.error().what);
                         } else {
                             refuse(call, created.error());
                         }
                     });
    }
}

// `left`: the kernel that it had before, which is shut down then, as jupyter_server does.
void Gateway::put_session(const Call& call, const Session& session, int status,
                          const std::optional<KernelId>& left) {
    const auto kernel = kernel_key(session.kernel);
    const auto* row = table_.find(kernel);
    replica::TableTransaction put{.conditions = {{kernel, row == nullptr ? Index{} : row->version}},
                                  .changes = {{session_key(session.model.id), encode(session)}}};
    if (row != nullptr) {  // as it is: whoever deletes it meanwhile looks again what goes with it
        put.changes.push_back({kernel, row->value});
    }
    table_.write(std::move(put),
                 [this, call, session, status, left](const Result<replica::TableOutcome>& written) {
                     if (!written) {
                         refuse(call, written.error());
                     } else if (*written == replica::TableOutcome::kConflict) {
                         kernel_changed(call, session, status, left);
                     } else {
                         answer(call, status, session_json(session));
                         if (left) {
                             kernels_.park(*left, "", [](const Status&) {});
                         }
                     }
                 });
}

// Its row is another one since the session was made: shut down through another gateway, perhaps.
void Gateway::kernel_changed(const Call& call, const Session& session, int status,
                             const std::optional<KernelId>& left) {
    if (kernels_.find_open(session.kernel) != nullptr) {
        put_session(call, session, status, left);
    } else {
        refuse(call, 409, "the kernel of this session was shut down meanwhile; try again");
    }
}

void Gateway::patch_session(const Call& call, const Session& session) {
    const auto body = session_body(call.request.body);
    if (!body) {
        refuse(call, 400, body.error().what);
        return;
    }
    const auto& wish = *body;
    auto next = session;
    next.model.path = wish.path.empty() ? session.model.path : wish.path;
    next.model.name = wish.name.empty() ? session.model.name : wish.name;
    next.model.type = wish.type.empty() ? session.model.type : wish.type;
    const auto move_to = [this, call, next, before = session.kernel](KernelId kernel) {
        auto moved = next;
        moved.kernel = kernel;
        put_session(call, moved, 200, before == kernel ? std::nullopt : std::optional(before));
    };
    if (!wish.kernel_id.empty()) {
        const auto id = Uuid::parse(wish.kernel_id);
        if (!id || kernels_.find(KernelId{*id}) == nullptr) {
            refuse(call, 404, "no kernel has the id " + wish.kernel_id.substr(0, 100));
            return;
        }
        kernels_.revive(KernelId{*id}, [this, call, move_to, id = *id](const Status& status) {
            status ? move_to(KernelId{id}) : refuse(call, status.error());
        });
    } else if (!wish.kernel_name.empty()) {
        start_kernel(wish.kernel_name, "", next.model.path, {},
                     [this, call, move_to](const Result<Kernel*>& created) {
                         created ? move_to((*created)->id) : refuse(call, created.error());
                     });
    } else {
        move_to(session.kernel);
    }
}

}  // namespace nbos::gateway
