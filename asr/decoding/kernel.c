/* What asr/decoding/lanes.py and asr/align.py say with arrays, as loops and many times as fast: frames of the
 * beam search, and the Viterbi alignment. compiled.py fills in the structures below, whose members are eight
 * bytes each, and answers what go_on() asks for. Names are those of the Python code, and so are the units. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WORD_BITS = 24, BLOCK = 16 };                 /* as in ngram.py */
enum { BLANK = 0, MAX_LABELS = 64, MAX_LANES = 32 }; /* as in labels.py, prefix_tree.py, compiled.py */
enum { MAX_LONGER = 8, WORDS_AT_ONCE = 32 };         /* orders above unigrams; words scored together */
static const double MARGIN = 1.1, MORE_MARGIN = 0.5; /* of the gap, as in lanes.py */
static const uint64_t HASH_FACTOR = 0x5851F42D4C957F2D;

/* What go_on() asks for before it is called again. */
enum { NOTHING, ROOM, HISTORY_ROOM, LOOK_AHEAD, SCORES, GAINS, RESCORING };
/* Where it is in a frame. */
enum { RUN, EXTENSION, CHOICE, ENDS, SCORING, GAINING, MERGING };

/* NGramModel. */
typedef struct {
    int64_t n_words, n_longer, n_blocks, n_contexts;
    const int64_t *keys, *first_keys;
    const float *log_probs, *back_offs;
    const uint8_t *is_context;
    int32_t *suffixes;
} NGrams;

/* Hypotheses, as columns; ids has rows of `room`. */
typedef struct {
    double *blank, *label;
    float *ahead;
    int64_t *ids;
} Columns;
enum { TEXT, STATE, LAST_WORD, NODE, CHILDREN, FIRST_CHILD, LABEL, HISTORY, LANE, N_IDS };

/* A hypothesis that goes on by a label. */
typedef struct {
    double score;
    int64_t row, node, label;
    float ahead, unused;
} Extension;

/* A word that ends with an extension. */
typedef struct {
    int64_t extension, word, text, state, last_word; /* state: before the word, then after it */
    float score, gained;
} End;

/* Candidates of the same place and words, which are added up. */
typedef struct {
    double blank, label;
    int64_t state, node, text;
    int64_t source;      /* the likeliest of them: a row, an extension after all rows, or an end after these */
    int64_t place, next; /* the first group of the same place, and the next one; -1 for none */
    double best_of_place, likeliest; /* likeliest: the probability of the source by itself */
} Group;

/* All that compiled.py hands over. */
typedef struct {
    /* The graph. */
    const NGrams *lm; /* null: Python scores words */
    const int64_t *branches, *first_word;
    const int32_t *words;
    const float *alone, *without_context;
    int64_t n_nodes, n_labels, n_contexts; /* of look-ahead; the last is no context */
    const float *table, *less, *added;     /* null: look-ahead is without context */
    const int32_t *starts, *ancestors;
    double most_gained, threshold, lm_weight, word_score;
    int64_t beam_size, has_gains, period;
    /* A block of frames. */
    int64_t n_frames, n_tried;
    const double *probabilities, *held, *carried;
    const float *scores, *tried_scores;
    const int64_t *tried;
    const uint8_t *has_run;
    /* The lanes and their hypotheses, in columns[current]. */
    int64_t n_lanes, current;
    int64_t *lane_starts;
    double *factors, *gaps;
    Columns columns[2];
    int64_t *history; /* rows of history_room */
    float *history_scores;
    int64_t n_history, history_room;
    /* Where it is. */
    int64_t frame, stage, n_since;
    /* Room to work in, for `room` hypotheses, extensions and ends each and for three times as many groups. */
    int64_t room, n_ends, n_needed;
    double *total, *staying, *blank, *label, *sorted; /* the last: three for each */
    Extension *extensions;
    End *ends;
    int64_t *needed; /* last words that look-ahead must know */
    Group *groups;
    int32_t *slots; /* four for each */
    double floors[MAX_LANES];
    int64_t extension_starts[MAX_LANES + 1], end_starts[MAX_LANES + 1];
} Search;

/* What compiled.py compares: it would not do with another source. */
const char source_checksum[] = SOURCE_CHECKSUM;
const int64_t extension_bytes = sizeof(Extension), group_bytes = sizeof(Group);

/* The k-th largest of n numbers, which are put in another order (Hoare's selection). */
static double kth_largest(double *x, int64_t n, int64_t k)
{
    int64_t first = 0, last = n - 1, wanted = k - 1;
    while (first < last) {
        double pivot = x[first + (last - first) / 2];
        int64_t i = first, j = last;
        while (i <= j) {
            while (x[i] > pivot) i++;
            while (x[j] < pivot) j--;
            if (i <= j) {
                double swapped = x[i];
                x[i++] = x[j];
                x[j--] = swapped;
            }
        }
        if (wanted <= j) last = j;
        else if (wanted >= i) first = i;
        else break;
    }
    return x[wanted];
}

/* Where n keys are among those of the model, -1 for those that are not. The binary searches go side by side,
 * so that they wait for the memory together. */
static void find_keys(const NGrams *lm, const int64_t *keys, int64_t *at, int64_t n)
{
    for (int64_t i = 0; i < n; i++) at[i] = 0;
    for (int64_t length = lm->n_blocks; length > 1;) {
        int64_t half = length / 2;
        for (int64_t i = 0; i < n; i++) at[i] += lm->first_keys[at[i] + half] <= keys[i] ? half : 0;
        length -= half;
    }
    for (int64_t i = 0; i < n; i++) __builtin_prefetch(lm->keys + at[i] * BLOCK + BLOCK / 2);
    for (int64_t i = 0; i < n; i++) {
        const int64_t *block = lm->keys + at[i] * BLOCK;
        int64_t inner = 0;
        for (int64_t half = BLOCK / 2; half; half /= 2) inner += block[inner + half] <= keys[i] ? half : 0;
        at[i] = block[inner] == keys[i] ? at[i] * BLOCK + inner : -1;
    }
}

static int64_t find_arc(const NGrams *lm, int64_t node, int64_t word)
{
    int64_t at, key = (node << WORD_BITS) + word;
    if (!node) return word;
    find_keys(lm, &key, &at, 1);
    return at < 0 ? -1 : lm->n_words + at;
}

static int64_t suffix_of(const NGrams *lm, int64_t node)
{
    if (!lm->suffixes[node]) {
        int64_t key = lm->keys[node - 1 - lm->n_words], arc, shorter = key >> WORD_BITS;
        do shorter = suffix_of(lm, shorter);
        while ((arc = find_arc(lm, shorter, key & ((1 << WORD_BITS) - 1))) < 0);
        lm->suffixes[node] = (int32_t)(arc + 2);
    }
    return lm->suffixes[node] - 1;
}

/* The state behind an arc, 0 if that is no context. */
static int64_t state_after(const NGrams *lm, int64_t arc)
{
    return arc + 1 < lm->n_contexts && lm->is_context[arc + 1] ? arc + 1 : 0;
}

/* Graph.score() of words that are all in the model. */
static void score(const Search *s, End *ends, int64_t n)
{
    const NGrams *lm = s->lm;
    int64_t contexts[WORDS_AT_ONCE][MAX_LONGER];
    int64_t keys[WORDS_AT_ONCE * MAX_LONGER], at[WORDS_AT_ONCE * MAX_LONGER], n_keys = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t context = ends[i].state, k = 0;
        for (; k < lm->n_longer && context; k++, context = suffix_of(lm, context)) {
            contexts[i][k] = context;
            keys[n_keys++] = (context << WORD_BITS) + ends[i].word;
        }
        if (k < lm->n_longer) contexts[i][k] = 0;
    }
    find_keys(lm, keys, at, n_keys);
    for (int64_t i = 0, looked_up = 0; i < n; i++) {
        int64_t arc = -1, state = 0; /* of the longest context that has the word */
        float weight = 0;
        for (int64_t k = 0; k < lm->n_longer && contexts[i][k]; k++, looked_up++) {
            int64_t found = at[looked_up] < 0 ? -1 : lm->n_words + at[looked_up];
            if (found >= 0 && !state) state = state_after(lm, found);
            if (arc < 0) arc = found;
            if (arc < 0) weight += lm->back_offs[contexts[i][k]];
        }
        if (!state) state = state_after(lm, ends[i].word);
        if (arc < 0) arc = ends[i].word;
        ends[i].score = (float)s->lm_weight * (weight + lm->log_probs[arc]) + (float)s->word_score;
        ends[i].state = state;
        ends[i].last_word = state > 0 ? ends[i].word : -1;
    }
}

/* Lanes.stay(): probabilities after frames that bring no new label. */
void stay(Search *s, const double *held, const double *carried)
{
    Columns *beam = &s->columns[s->current];
    const int64_t *labels = beam->ids + LABEL * s->room;
    for (int64_t lane = 0; lane < s->n_lanes; lane++, held += s->n_labels, carried += s->n_labels) {
        double best = 0;
        for (int64_t row = s->lane_starts[lane]; row < s->lane_starts[lane + 1]; row++) {
            beam->blank[row] += beam->label[row] * carried[labels[row]];
            beam->label[row] *= held[labels[row]];
            best = fmax(best, beam->blank[row] + beam->label[row]);
        }
        s->factors[lane] += log(best);
        for (int64_t row = s->lane_starts[lane]; row < s->lane_starts[lane + 1]; row++) {
            beam->blank[row] /= best;
            beam->label[row] /= best;
        }
    }
}

static const double *probabilities_of(const Search *s, int64_t lane)
{
    return s->probabilities + (s->frame * s->n_lanes + lane) * s->n_labels;
}

/* Extensions of all lanes that may be worth scoring; look-ahead makes a hypothesis worse, but for words with
 * a bonus, so that many need not be looked at. */
static int extend(Search *s)
{
    const Columns *beam = &s->columns[s->current];
    const int64_t *children = beam->ids + CHILDREN * s->room, *first_child = beam->ids + FIRST_CHILD * s->room;
    const int64_t *labels = beam->ids + LABEL * s->room;
    int64_t n = 0, tried_from = s->frame * s->n_lanes * s->n_tried;
    for (int64_t lane = 0; lane < s->n_lanes; lane++, tried_from += s->n_tried) {
        const double *probabilities = probabilities_of(s, lane);
        double best = -INFINITY, least[MAX_LABELS];
        uint64_t tried = 0;
        for (int64_t row = s->lane_starts[lane]; row < s->lane_starts[lane + 1]; row++) {
            double total = beam->blank[row] + beam->label[row];
            s->blank[row] = total * probabilities[BLANK];
            s->label[row] = beam->label[row] * probabilities[labels[row]];
            s->total[row] = log(total);
            s->staying[row] = log(s->blank[row] + s->label[row]);
            best = fmax(best, s->staying[row]);
        }
        double gap = fmin(s->threshold, MARGIN * s->gaps[lane] + MORE_MARGIN);
        for (int64_t i = tried_from; i < tried_from + s->n_tried; i++) {
            tried |= (uint64_t)1 << s->tried[i];
            least[s->tried[i]] = best - gap - s->most_gained - s->tried_scores[i];
        }
        s->extension_starts[lane] = n;
        for (int64_t row = s->lane_starts[lane]; row < s->lane_starts[lane + 1]; row++) {
            for (uint64_t left = children[row] & tried; left; left &= left - 1) {
                int label = __builtin_ctzll(left);
                if (!(s->total[row] > least[label])) continue;
                if (n == s->room) return ROOM;
                Extension *e = s->extensions + n++;
                e->row = row;
                e->label = label;
                e->node = first_child[row] + __builtin_popcountll(children[row] & (((uint64_t)1 << label) - 1));
                __builtin_prefetch(s->without_context + e->node);
                if (s->less) {
                    __builtin_prefetch(s->ancestors + e->node);
                    __builtin_prefetch(s->less + e->node);
                }
            }
        }
    }
    s->extension_starts[s->n_lanes] = n;
    return NOTHING;
}

static int64_t context_after(const Search *s, int64_t last_word)
{
    return last_word < 0 ? s->n_contexts - 1 : last_word;
}

/* Whether look-ahead has yet to meet last words of extensions; all of these are noted. */
static int must_be_met(Search *s)
{
    const int64_t *last_words = s->columns[s->current].ids + LAST_WORD * s->room;
    int is_new = 0;
    s->n_needed = 0;
    for (int64_t i = 0, row = -1; s->less && i < s->extension_starts[s->n_lanes]; i++) {
        if (s->extensions[i].row == row) continue;
        row = s->extensions[i].row;
        is_new |= s->starts[context_after(s, last_words[row])] < 0;
        s->needed[s->n_needed++] = last_words[row];
    }
    return is_new;
}

static float look_ahead(const Search *s, int64_t last_word, int64_t node)
{
    int64_t context = context_after(s, last_word);
    if (!s->less) return s->without_context[node];
    return s->table[s->starts[context] + s->ancestors[node]] + (s->less[node] + s->added[context]);
}

/* Scores all extensions and keeps those that are good enough. */
static void choose(Search *s)
{
    const Columns *beam = &s->columns[s->current];
    const int64_t *labels = beam->ids + LABEL * s->room, *last_words = beam->ids + LAST_WORD * s->room;
    Extension *kept = s->extensions;
    for (int64_t lane = 0; lane < s->n_lanes; lane++) {
        const float *scores = s->scores + (s->frame * s->n_lanes + lane) * s->n_labels;
        Extension *first = s->extensions + s->extension_starts[lane];
        Extension *end = s->extensions + s->extension_starts[lane + 1];
        int64_t n = 0;
        double best = -INFINITY;
        for (int64_t row = s->lane_starts[lane]; row < s->lane_starts[lane + 1]; row++)
            best = fmax(best, s->sorted[n++] = s->staying[row]);
        for (Extension *e = first; e < end; e++) {
            e->ahead = look_ahead(s, last_words[e->row], e->node);
            e->score = e->label == labels[e->row] ? log(beam->blank[e->row]) : s->total[e->row];
            e->score += scores[e->label] + (e->ahead - beam->ahead[e->row]);
            best = fmax(best, s->sorted[n++] = e->score);
        }
        double floor = best - s->threshold;
        if (n > s->beam_size) floor = fmax(floor, kth_largest(s->sorted, n, s->beam_size));
        s->gaps[lane] = best - floor;
        s->floors[lane] = floor;
        s->extension_starts[lane] = kept - s->extensions;
        for (const Extension *e = first; e < end; e++) {
            if (e->score > floor) *kept++ = *e;
        }
    }
    s->extension_starts[s->n_lanes] = kept - s->extensions;
}

/* The words that end with extensions and may score above the lane's floor: each is expected to have the share
 * of the look-ahead that it has without context. */
static int end_words(Search *s)
{
    const int64_t *ids = s->columns[s->current].ids;
    s->n_ends = 0;
    for (int64_t lane = 0; lane < s->n_lanes; lane++) {
        s->end_starts[lane] = s->n_ends;
        for (int64_t i = s->extension_starts[lane]; i < s->extension_starts[lane + 1]; i++) {
            const Extension *e = s->extensions + i;
            double lacking = s->floors[lane] - e->score + s->without_context[e->node];
            for (int64_t k = s->first_word[e->node]; k < s->first_word[e->node + 1]; k++) {
                if (!(s->alone[s->words[k]] > lacking)) continue;
                if (s->n_ends == s->room) return ROOM;
                uint64_t text = (uint64_t)ids[TEXT * s->room + e->row] + (uint64_t)s->words[k] + 1;
                End *end = s->ends + s->n_ends++;
                end->extension = i;
                end->word = s->words[k];
                end->text = (int64_t)(text * HASH_FACTOR);
                end->state = ids[STATE * s->room + e->row];
                end->gained = 0;
            }
        }
    }
    s->end_starts[s->n_lanes] = s->n_ends;
    return NOTHING;
}

/* Adds a candidate to those of its place and words; the number of groups then. */
static int64_t add(Search *s, int64_t n_groups, uint64_t mask, int64_t state, int64_t node, int64_t text,
                   double blank, double label, int64_t source)
{
    uint64_t slot = ((((uint64_t)state * s->n_nodes + node) * HASH_FACTOR) >> 32) & mask;
    Group *groups = s->groups;
    int64_t i, last = -1;
    while ((i = s->slots[slot]) >= 0 && (groups[i].state != state || groups[i].node != node))
        slot = (slot + 1) & mask;
    int64_t place = i < 0 ? n_groups : i;
    for (; i >= 0; last = i, i = groups[i].next) {
        if (groups[i].text != text) continue;
        groups[i].blank += blank;
        groups[i].label += label;
        if (blank + label > groups[i].likeliest) { /* of equal ones the first stands for all */
            groups[i].likeliest = blank + label;
            groups[i].source = source;
        }
        return n_groups;
    }
    if (last < 0) s->slots[slot] = (int32_t)n_groups;
    else groups[last].next = n_groups;
    groups[n_groups] = (Group){blank, label, state, node, text, source, place, -1, 0, blank + label};
    return n_groups + 1;
}

/* All candidates of a lane, added up; the number of groups. */
static int64_t add_all(Search *s, int64_t lane)
{
    const int64_t *ids = s->columns[s->current].ids;
    int64_t n_rows = s->lane_starts[s->n_lanes], n_extensions = s->extension_starts[s->n_lanes], n_groups = 0;
    int64_t n = s->lane_starts[lane + 1] - s->lane_starts[lane] + s->extension_starts[lane + 1] -
                s->extension_starts[lane] + s->end_starts[lane + 1] - s->end_starts[lane];
    uint64_t n_slots = 4;
    while (n_slots < 2 * (uint64_t)n && n_slots < 4 * (uint64_t)s->room) n_slots *= 2;
    memset(s->slots, -1, n_slots * sizeof(int32_t));
    for (int64_t i = s->lane_starts[lane]; i < s->lane_starts[lane + 1]; i++) {
        n_groups = add(s, n_groups, n_slots - 1, ids[STATE * s->room + i], ids[NODE * s->room + i],
                       ids[TEXT * s->room + i], s->blank[i], s->label[i], i);
    }
    for (int64_t i = s->extension_starts[lane]; i < s->extension_starts[lane + 1]; i++) {
        const Extension *e = s->extensions + i;
        n_groups = add(s, n_groups, n_slots - 1, ids[STATE * s->room + e->row], e->node,
                       ids[TEXT * s->room + e->row], 0, exp(e->score), n_rows + i);
    }
    for (int64_t i = s->end_starts[lane]; i < s->end_starts[lane + 1]; i++) {
        const End *end = s->ends + i;
        const Extension *e = s->extensions + end->extension;
        double probability = exp(e->score - e->ahead + end->score + end->gained);
        n_groups = add(s, n_groups, n_slots - 1, end->state, e->label, end->text, 0, probability,
                       n_rows + n_extensions + i);
    }
    return n_groups;
}

/* A word that survives enters the history; its place there. */
static int64_t remember(Search *s, const End *end, int64_t previous)
{
    int64_t *entry = s->history + s->n_history;
    entry[0] = end->word;
    entry[s->history_room] = s->extensions[end->extension].node;
    entry[2 * s->history_room] = previous;
    entry[3 * s->history_room] = end->text;
    s->history_scores[s->n_history] = end->score;
    s->history_scores[s->n_history + s->history_room] = end->gained;
    return s->n_history++;
}

/* A group becomes hypothesis `to` of the next frame; best: what its probabilities are in relation to. */
static void survive(Search *s, const Group *group, double best, int64_t to)
{
    const Columns *beam = &s->columns[s->current], *next = &s->columns[1 - s->current];
    int64_t n_rows = s->lane_starts[s->n_lanes], n_extensions = s->extension_starts[s->n_lanes];
    const End *end = group->source < n_rows + n_extensions ? 0 : s->ends + (group->source - n_rows - n_extensions);
    const Extension *e = end ? s->extensions + end->extension : s->extensions + (group->source - n_rows);
    int64_t row = group->source < n_rows ? group->source : e->row;
    int64_t *ids = next->ids + to;
    for (int64_t i = 0; i < N_IDS; i++) ids[i * s->room] = beam->ids[i * s->room + row];
    next->blank[to] = group->blank / best;
    next->label[to] = group->label / best;
    next->ahead[to] = beam->ahead[row];
    if (group->source < n_rows) return;
    next->ahead[to] = end ? 0 : e->ahead;
    ids[NODE * s->room] = group->node;
    ids[CHILDREN * s->room] = s->branches[2 * group->node];
    ids[FIRST_CHILD * s->room] = s->branches[2 * group->node + 1];
    ids[LABEL * s->room] = e->label;
    if (!end) return;
    ids[TEXT * s->room] = end->text;
    ids[STATE * s->room] = end->state;
    ids[LAST_WORD * s->room] = end->last_word;
    ids[HISTORY * s->room] = remember(s, end, ids[HISTORY * s->room]);
}

/* merged() of hypotheses.py: of a lane's candidates those that survive, from hypothesis `to` on; where they
 * end. */
static int64_t merge_lane(Search *s, int64_t lane, int64_t to)
{
    int64_t n_groups = add_all(s, lane), n = 0;
    Group *groups = s->groups;
    double best = 0;
    for (int64_t i = 0; i < n_groups; i++) {
        Group *place = groups + groups[i].place;
        double total = groups[i].blank + groups[i].label;
        place->best_of_place = fmax(place->best_of_place, total);
        best = fmax(best, total);
    }
    for (int64_t i = 0; i < n_groups; i++) groups[i].best_of_place = groups[groups[i].place].best_of_place;
    double least = best * exp(-s->threshold);
    for (int64_t i = 0; i < n_groups; i++) {
        double total = groups[i].blank + groups[i].label;
        if (total > least && total == groups[i].best_of_place) {
            s->sorted[n] = total;
            groups[n++] = groups[i];
        }
    }
    int64_t n_equal = n; /* to the worst that is kept, of which as many are */
    double worst = -1;
    if (n > s->beam_size) {
        worst = kth_largest(s->sorted, n, s->beam_size);
        n_equal = s->beam_size;
        for (int64_t i = 0; i < n; i++) n_equal -= groups[i].blank + groups[i].label > worst;
    }
    for (int64_t i = 0; i < n; i++) {
        double total = groups[i].blank + groups[i].label;
        if (total > worst || (total == worst && n_equal-- > 0)) survive(s, groups + i, best, to++);
    }
    s->factors[lane] += log(best);
    return to;
}

static int merge(Search *s)
{
    int64_t n_candidates = s->lane_starts[s->n_lanes] + s->extension_starts[s->n_lanes] + s->n_ends;
    if (n_candidates > s->room && s->n_lanes * s->beam_size > s->room) return ROOM;
    if (s->n_history + s->n_ends > s->history_room) return HISTORY_ROOM;
    int64_t starts[MAX_LANES + 1] = {0};
    for (int64_t lane = 0; lane < s->n_lanes; lane++) starts[lane + 1] = merge_lane(s, lane, starts[lane]);
    memcpy(s->lane_starts, starts, (s->n_lanes + 1) * sizeof(int64_t));
    s->current = 1 - s->current;
    return NOTHING;
}

/* By the frames of a block, from where it is; what it must be given before it can go on. */
int64_t go_on(Search *s)
{
    while (s->frame < s->n_frames) {
        int64_t lanes = s->frame * s->n_lanes, asked = NOTHING, has_run = 0;
        switch (s->stage) {
        case RUN:
            for (int64_t lane = 0; lane < s->n_lanes; lane++) has_run |= s->has_run[lanes + lane];
            if (has_run) stay(s, s->held + lanes * s->n_labels, s->carried + lanes * s->n_labels);
            break;
        case EXTENSION:
            asked = extend(s);
            if (asked == NOTHING && must_be_met(s)) asked = LOOK_AHEAD;
            break;
        case CHOICE:
            choose(s);
            break;
        case ENDS:
            asked = end_words(s);
            break;
        case SCORING:
            for (int64_t i = 0; s->lm && i < s->n_ends; i += WORDS_AT_ONCE)
                score(s, s->ends + i, s->n_ends - i < WORDS_AT_ONCE ? s->n_ends - i : WORDS_AT_ONCE);
            s->stage = GAINING;
            if (!s->lm && s->n_ends) return SCORES;
            continue;
        case GAINING:
            s->stage = MERGING;
            if (s->has_gains && s->n_ends) return GAINS;
            continue;
        case MERGING:
            if ((asked = merge(s)) != NOTHING) return asked;
            s->stage = RUN;
            s->frame++;
            if (++s->n_since >= s->period) return RESCORING;
            continue;
        }
        if (asked != NOTHING) return asked;
        s->stage++;
    }
    return NOTHING;
}

/* The likeliest way through states that follow one another, of which each may be skipped if it is a blank
 * between two different labels. log_probs: (n_frames, n_labels); states: labels, every second one a blank;
 * path: (n_frames,) indices of states; scores: room for 2 * n_states; steps: for n_frames * n_states. */
void align(const float *log_probs, int64_t n_frames, int64_t n_labels, const int64_t *states, int64_t n_states,
           int64_t *path, double *scores, uint8_t *steps)
{
    double *before = scores, *after = scores + n_states;
    for (int64_t i = 0; i < n_states; i++) before[i] = i < 2 ? log_probs[states[i]] : -INFINITY;
    for (int64_t t = 1; t < n_frames; t++) {
        const float *frame = log_probs + t * n_labels;
        for (int64_t i = 0; i < n_states; i++) {
            double stay = before[i], step = i > 0 ? before[i - 1] : -INFINITY;
            double skip = i > 1 && states[i] != BLANK && states[i] != states[i - 2] ? before[i - 2] : -INFINITY;
            int back = fmax(step, skip) > stay ? (step >= skip ? 1 : 2) : 0;
            steps[t * n_states + i] = (uint8_t)back;
            after[i] = (back == 0 ? stay : back == 1 ? step : skip) + frame[states[i]];
        }
        double *swapped = before;
        before = after;
        after = swapped;
    }
    int64_t state = n_states - 1;
    if (n_states > 1 && before[state - 1] >= before[state]) state--;
    for (int64_t t = n_frames - 1; t >= 0; t--) {
        path[t] = state;
        if (t) state -= steps[t * n_states + state];
    }
}
