// The gateways' tables: what takes effect, what is void, and what a snapshot carries.
#include "replica/table_machine.h"

#include <gtest/gtest.h>

namespace nbos::replica {
namespace {

TableChange put(const std::string& key, const std::string& value) {
    return {key, Bytes::copy(value)};
}
TableChange erase(const std::string& key) { return {key, std::nullopt}; }

class Table : public ::testing::Test {
protected:
    // Whether it was not void.
    bool write(std::uint64_t sequence, std::vector<TableTransaction> transactions,
               Uuid writer = {1, 1}) {
        const TableWrite entry{writer, sequence, std::move(transactions)};
        return machine_.apply(Index{++index_}, encode(entry).view()).has_value();
    }
    std::vector<TableOutcome> outcomes(Uuid writer = {1, 1}) {
        return machine_.writers().at(writer).outcomes;
    }
    std::string at(const std::string& key) {
        const auto row = machine_.rows().find(key);
        return row == machine_.rows().end() ? "-" : std::string(row->second.value.view());
    }

    TableMachine machine_;
    std::uint64_t index_ = 10;
};

TEST_F(Table, RowsHaveTheIndexOfTheirLastWriteAsVersion) {
    EXPECT_TRUE(write(1, {{{}, {put("a", "1"), put("b", "2")}}}));
    EXPECT_TRUE(write(2, {{{}, {put("b", "3")}}}));
    EXPECT_EQ(Index{11}, machine_.rows().at("a").version);
    EXPECT_EQ(Index{12}, machine_.rows().at("b").version);
    EXPECT_EQ("3", at("b"));
    EXPECT_TRUE(write(3, {{{}, {erase("a"), erase("never")}}}));
    EXPECT_EQ("-", at("a"));
    EXPECT_EQ(2U, machine_.bytes());
}

TEST_F(Table, ARepeatedWriteIsVoidAlsoBehindALaterOne) {
    EXPECT_TRUE(write(1, {{{}, {put("a", "1")}}}));
    EXPECT_TRUE(write(2, {{{}, {put("a", "2")}}}));
    EXPECT_FALSE(write(1, {{{}, {put("a", "1")}}}));
    EXPECT_FALSE(write(2, {{{}, {put("a", "2")}}}));
    EXPECT_EQ("2", at("a"));
    EXPECT_TRUE(write(1, {{{}, {put("a", "other")}}}, {2, 2}));  // another writer's first
    EXPECT_EQ("other", at("a"));
}

TEST_F(Table, ATransactionIsWholeOrNothingAndTheNextOneSeesIt) {
    EXPECT_TRUE(write(1, {{{{"a", Index{0}}}, {put("a", "first")}},
                          {{{"a", Index{0}}}, {put("a", "second"), put("b", "second")}},
                          {{{"a", Index{11}}}, {put("c", "third")}}}));
    EXPECT_EQ((std::vector{TableOutcome::kDone, TableOutcome::kConflict, TableOutcome::kDone}),
              outcomes());
    EXPECT_EQ("first", at("a"));
    EXPECT_EQ("-", at("b"));
    EXPECT_EQ("third", at("c"));
}

TEST_F(Table, AppliedNamesOnlyWhatTookEffect) {
    const TableWrite entry{
        {1, 1}, 1, {{{}, {put("a", "1")}}, {{{"x", Index{7}}}, {put("b", "1")}}}};
    const auto applied = machine_.apply(Index{5}, encode(entry).view());
    ASSERT_TRUE(applied);
    ASSERT_EQ(1U, applied->changes.size());
    EXPECT_EQ("a", applied->changes[0].key);
}

TEST_F(Table, WhatIsTooLargeIsVoidAndSaysWhatToDo) {
    const std::string long_key(kTableKeyBytesMax + 1, 'k');
    const std::string long_row(kTableRowBytesMax + 1, 'v');
    for (const auto& change : {put(long_key, "1"), put("", "1"), put("a", long_row)}) {
        const TableWrite entry{{1, 1}, 1, {{{}, {change}}}};
        const auto good = check(entry);
        ASSERT_FALSE(good);
        EXPECT_EQ(Errc::kInvalid, good.error().code);
        EXPECT_FALSE(machine_.apply(Index{1}, encode(entry).view()));
    }
    TableWrite large{{1, 1}, 1, {{}}};
    for (int n = 0; n < 17; ++n) {
        large.transactions[0].changes.push_back(
            put("k" + std::to_string(n), std::string(kTableRowBytesMax, 'v')));
    }
    EXPECT_FALSE(check(large));
    EXPECT_FALSE(machine_.apply(Index{1}, "nonsense"));
    EXPECT_TRUE(machine_.rows().empty());
}

TEST_F(Table, AFullTableTakesOnlyWhatMakesItSmaller) {
    const std::string row(kTableRowBytesMax, 'v');
    std::uint64_t sequence = 0;
    while (machine_.bytes() + row.size() + 3 <= kTableBytesMax) {
        ASSERT_TRUE(write(sequence + 1, {{{}, {put(std::to_string(100 + sequence), row)}}}));
        ++sequence;
    }
    EXPECT_TRUE(write(++sequence, {{{}, {put("999", row)}}}));
    EXPECT_EQ(std::vector{TableOutcome::kFull}, outcomes());
    EXPECT_EQ("-", at("999"));
    EXPECT_TRUE(write(++sequence, {{{}, {put("100", "small")}}}));
    EXPECT_EQ(std::vector{TableOutcome::kDone}, outcomes());
    EXPECT_TRUE(write(++sequence, {{{}, {erase("101")}}, {{}, {put("999", row)}}}));
    EXPECT_EQ((std::vector{TableOutcome::kDone, TableOutcome::kDone}), outcomes());
}

TEST_F(Table, RemembersTheLatestWriters) {
    for (std::uint64_t n = 0; n <= kTableWritersMax; ++n) {
        EXPECT_TRUE(write(1, {{{}, {put("a", "1")}}}, {3, n}));
    }
    EXPECT_EQ(kTableWritersMax, machine_.writers().size());
    EXPECT_FALSE(machine_.writers().contains({3, 0}));
    EXPECT_FALSE(write(1, {{{}, {put("a", "1")}}}, {3, 1}));
}

TEST_F(Table, ASnapshotCarriesRowsAndWriters) {
    write(1, {{{}, {put("a", "1"), put("b", "")}}, {{{"a", Index{99}}}, {put("a", "2")}}});
    write(7, {{{}, {erase("c")}}}, {2, 2});
    auto copy = TableMachine::restore(machine_.snapshot().view());
    ASSERT_TRUE(copy);
    EXPECT_EQ(machine_, *copy);
    const TableWrite repeated{{2, 2}, 7, {{{}, {put("x", "1")}}}};
    EXPECT_FALSE(copy->apply(Index{50}, encode(repeated).view()));
    const auto bytes = std::string(machine_.snapshot().view());
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
        EXPECT_FALSE(TableMachine::restore(bytes.substr(0, cut))) << cut;
    }
}

}  // namespace
}  // namespace nbos::replica
