/* The page of `moebius bench serve --html`: four plots drawn as SVG, nothing to load from
 * elsewhere. */
#include "launcher/bench_plot.h"

#include <math.h>
#include <stdlib.h>

#define WIDTH 640
#define HEIGHT 220
#define LEFT 56
#define BOTTOM 36
#define BINS 128

/* One plot: y over x as steps or bars. */
struct plot {
    const char *title, *x_name, *y_name;
    double x_max;
    double y[BINS];
};

static void write_escaped(FILE *out, const char *text) {
    for (; *text != '\0'; text++)
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*text, out);
        }
}

static double most_of(const struct plot *plot) {
    double most = 0.0;
    for (int i = 0; i < BINS; i++)
        most = fmax(most, plot->y[i]);
    return most > 0.0 ? most : 1.0;
}

static void write_axes(FILE *out, const struct plot *plot, double y_max) {
    fprintf(out,
            "<line class='axis' x1='%d' y1='%d' x2='%d' y2='%d'/>"
            "<line class='axis' x1='%d' y1='10' x2='%d' y2='%d'/>\n",
            LEFT, HEIGHT - BOTTOM, WIDTH - 10, HEIGHT - BOTTOM, LEFT, LEFT, HEIGHT - BOTTOM);
    for (int i = 0; i <= 4; i++) {
        double x = LEFT + (WIDTH - 10.0 - LEFT) * i / 4.0;
        double y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10.0) * i / 4.0;
        fprintf(out, "<text x='%.1f' y='%d' text-anchor='middle'>%.3g</text>", x,
                HEIGHT - BOTTOM + 14, plot->x_max * i / 4.0);
        fprintf(out, "<text x='%d' y='%.1f' text-anchor='end'>%.3g</text>\n", LEFT - 6, y + 4.0,
                y_max * i / 4.0);
    }
    fprintf(out, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n", (LEFT + WIDTH) / 2,
            HEIGHT - 6, plot->x_name);
}

static void write_plot(FILE *out, const struct plot *plot) {
    double y_max = most_of(plot), step = (WIDTH - 10.0 - LEFT) / BINS;
    fprintf(out, "<figure><figcaption>%s (%s)</figcaption>\n", plot->title, plot->y_name);
    fprintf(out, "<svg viewBox='0 0 %d %d' width='%d' height='%d' role='img'>\n", WIDTH, HEIGHT,
            WIDTH, HEIGHT);
    for (int i = 0; i < BINS; i++) {
        double height = plot->y[i] / y_max * (HEIGHT - BOTTOM - 10.0);
        fprintf(out, "<rect x='%.2f' y='%.2f' width='%.2f' height='%.2f'/>\n", LEFT + i * step,
                HEIGHT - BOTTOM - height, step * 0.92, height);
    }
    write_axes(out, plot, y_max);
    fputs("</svg></figure>\n", out);
}

static void add_at(struct plot *plot, double x, double amount) {
    int bin = (int)(x / plot->x_max * BINS);
    if (bin >= 0 && bin < BINS)
        plot->y[bin] += amount;
    else if (bin == BINS)
        plot->y[BINS - 1] += amount;
}

/* Mean number of open requests in each slot of time. */
static void plot_open(FILE *out, const struct bench_outcome *outcomes, int32_t count,
                      double duration) {
    struct plot plot = {
        .title = "Requests open", .x_name = "seconds", .y_name = "mean number", .x_max = duration};
    double slot = duration / BINS;
    for (int32_t i = 0; i < count; i++)
        for (int b = 0; b < BINS; b++) {
            double from = fmax(outcomes[i].start_s, b * slot);
            double to = fmin(outcomes[i].start_s + outcomes[i].end_s, (b + 1) * slot);
            plot.y[b] += to > from ? (to - from) / slot : 0.0;
        }
    write_plot(out, &plot);
}

static void plot_tokens(FILE *out, const struct bench_outcome *outcomes, int32_t count,
                        double duration) {
    struct plot plot = {.title = "Output tokens a second",
                        .x_name = "seconds",
                        .y_name = "tokens/s",
                        .x_max = duration};
    for (int32_t i = 0; i < count; i++) {
        const struct bench_outcome *outcome = &outcomes[i];
        double at = outcome->start_s + outcome->first_token_s;
        double each = (double)outcome->output_tokens / (outcome->gap_count + 1) * BINS / duration;
        for (int32_t g = -1; outcome->succeeded && g < outcome->gap_count; g++) {
            at += g >= 0 ? outcome->gaps_s[g] : 0.0;
            add_at(&plot, at, each);
        }
    }
    write_plot(out, &plot);
}

/* Histogram up to four times the 90th percentile or the 99th, whichever is less. */
static struct plot distribution(const char *title, const struct bench_spread *spread) {
    double most = fmin(4.0 * spread->p90, spread->p99 * 1.05);
    return (struct plot){
        .title = title, .x_name = "ms", .y_name = "count", .x_max = most > 0.0 ? most : 1.0};
}

static void plot_distributions(FILE *out, const struct bench_figures *figures,
                               const struct bench_outcome *outcomes, int32_t count) {
    struct plot ttft = distribution("Time to first token", &figures->ttft),
                itl = distribution("Inter-token latency", &figures->itl),
                e2e = distribution("End-to-end latency", &figures->e2e);
    for (int32_t i = 0; i < count; i++) {
        if (!outcomes[i].succeeded)
            continue;
        add_at(&ttft, outcomes[i].first_token_s * 1e3, 1.0);
        add_at(&e2e, outcomes[i].end_s * 1e3, 1.0);
        for (int32_t g = 0; g < outcomes[i].gap_count; g++)
            add_at(&itl, outcomes[i].gaps_s[g] * 1e3, 1.0);
    }
    write_plot(out, &ttft);
    write_plot(out, &itl);
    write_plot(out, &e2e);
}

void bench_plot_write(FILE *out, const struct bench_figures *figures,
                      const struct bench_outcome *outcomes, int32_t count,
                      const char *const (*setup)[2], int32_t setup_count) {
    double duration = figures->duration_s > 0.0 ? figures->duration_s : 1.0;
    fputs("<!DOCTYPE html>\n<html lang='en'><meta charset='utf-8'>"
          "<title>moebius bench serve</title>\n<style>body{font:14px sans-serif;margin:2em}"
          "figure{display:inline-block;margin:0 1em 1em 0}svg text{font-size:11px;fill:#444}"
          "rect{fill:#37c}.axis{stroke:#444}td{padding-right:2em}pre{font-size:13px}</style>\n"
          "<h1>moebius bench serve</h1>\n<table>\n",
          out);
    for (int32_t i = 0; i < setup_count; i++) {
        fputs("<tr><td>", out);
        write_escaped(out, setup[i][0]);
        fputs("</td><td>", out);
        write_escaped(out, setup[i][1]);
        fputs("</td></tr>\n", out);
    }
    fputs("</table>\n<pre>", out);
    bench_figures_print(out, figures);
    fputs("</pre>\n", out);
    plot_open(out, outcomes, count, duration);
    plot_tokens(out, outcomes, count, duration);
    plot_distributions(out, figures, outcomes, count);
    fputs("</html>\n", out);
}
